package sshconfig

import (
	"fmt"
	"slices"
	"strings"
)

// OriginKind tells the places apart where a value can be set.
type OriginKind int

const (
	// FromDefault means that nobody set the value.
	FromDefault OriginKind = iota
	// FromCommandLine means -o, -J, or the destination itself.
	FromCommandLine
	// FromFile means a line of an ssh_config file.
	FromFile
)

// Origin says where a value was set. Its zero value stands for a default.
type Origin struct {
	// Kind is the kind of place.
	Kind OriginKind
	// File is the file of the line; it is set for FromFile only.
	File string
	// Line is the number of the line, from 1 on; it is set for FromFile only.
	Line int
}

// String returns FILE:LINE, "command line" or "default".
func (o Origin) String() string {
	switch o.Kind {
	case FromFile:
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	case FromCommandLine:
		return "command line"
	default:
		return "default"
	}
}

// Setting is one line of the output of `ssh -G`, and where its value was set.
type Setting struct {
	// Keyword is in lower case.
	Keyword string
	// Value is as `ssh -G` prints it.
	Value string
	// Origin is where the value was set. A value that takes up a whole line of the file has one
	// origin, however many words it has; the values of a keyword that adds up (IdentityFile,
	// SendEnv) have one each.
	Origin Origin
}

// Settings returns all lines that WriteTo writes, in the same order. A keyword that holds several
// values has several settings. The caller may change the slice.
func (h *Host) Settings() []Setting { return slices.Clone(h.settings) }

// Origin returns where the first value of a keyword was set. The keyword may be in any case, and
// one of the older names that OpenSSH still takes. A keyword that `ssh -G` does not print has the
// origin FromDefault.
func (h *Host) Origin(keyword string) Origin {
	keyword = strings.ToLower(keyword)
	if name := keywordAliases[keyword]; name != "" {
		keyword = name
	}
	for _, s := range h.settings {
		if s.Keyword == keyword {
			return s.Origin
		}
	}
	return Origin{}
}

// errorf makes the error of a value that was set here. The error of a default has no file, and so
// blames the command line.
func (o Origin) errorf(format string, args ...any) error {
	return &Error{File: o.File, Line: o.Line, Msg: fmt.Sprintf(format, args...)}
}
