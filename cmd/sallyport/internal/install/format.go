package install

import (
	"bytes"
	"slices"
)

// format edits documents of one syntax. Its methods are pure: they get the bytes of a file and
// return others. A nil text is a file that does not exist.
type format interface {
	// servers lists those in the container, which is a path of keys.
	servers(text []byte, container []string) ([]Server, error)
	// put adds or updates the server name. Members that it has besides those of value stay.
	put(text []byte, container []string, name string, value object) (Change, error)
	// remove takes a server out. Containers that are empty then become what made says that they
	// were before put. The result is nil if the file was not there before.
	remove(text []byte, container []string, name string, made []Made) ([]byte, error)
}

// Change is what put has done.
type Change struct {
	// New is the new text of the file.
	New []byte
	// Made are the containers that were missing or empty before.
	Made []Made
}

// Made is a container that was missing or empty before an entry came into it.
type Made struct {
	// Path is that of the container. It is empty for the whole file.
	Path []string `json:"path,omitempty"`
	// Was is how the container was written. It is empty if it was missing.
	Was string `json:"was,omitempty"`
	// Missing says that the whole file was missing.
	Missing bool `json:"missing,omitempty"`
}

// lookUpMade finds the container at path.
func lookUpMade(made []Made, path []string) (Made, bool) {
	i := slices.IndexFunc(made, func(m Made) bool { return slices.Equal(m.Path, path) })
	if i < 0 {
		return Made{}, false
	}
	return made[i], true
}

// SyntaxError says that a configuration file is not what its host should be able to read, or is
// written in a way that is not edited here.
type SyntaxError struct {
	// Path is the file.
	Path string
	// Text says what is wrong, and where in the file.
	Text string
}

// Error returns the file and the text.
func (e *SyntaxError) Error() string { return e.Path + ": " + e.Text }

// newlineOf returns the line break that text uses.
func newlineOf(text []byte) string {
	if bytes.Contains(text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// appendBlock appends lines to a text, below a blank line. The end of the last line stays as it is:
// a text without a final line break gets none.
func appendBlock(text []byte, block string) []byte {
	newline := newlineOf(text)
	switch {
	case len(text) == 0:
	case bytes.HasSuffix(text, []byte("\n")):
		block = newline + block
	default:
		block = newline + newline + block[:len(block)-len(newline)]
	}
	return append(text[:len(text):len(text)], block...)
}

// cutBlock cuts text[from:to], whole lines, and the blank line above them that appendBlock has
// added.
func cutBlock(text []byte, from, to int) []byte {
	newline := newlineOf(text)
	blank := []byte(newline + newline)
	switch {
	case to == len(text) && !bytes.HasSuffix(text, []byte("\n")):
		if bytes.HasSuffix(text[:from], blank) {
			from -= len(blank)
		}
	case bytes.HasSuffix(text[:from], blank):
		from -= len(newline)
	}
	return splice(text, from, to, "")
}
