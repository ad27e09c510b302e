package sshconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"sallyport/sshtunnel/display"
)

// evaluation reads the command line and the files for one destination.
type evaluation struct {
	// resolver has the settings of the caller.
	resolver *Resolver
	// release is the OpenSSH to be like.
	release *release
	// local is what is known of this machine and its user.
	local local
	// target is the destination.
	target target

	// values is what is set so far.
	values values
	// forwards are LocalForward, RemoteForward and DynamicForward, in the order of their lines.
	forwards []forward
	// identities holds the files of IdentityFile and CertificateFile that are listed already.
	identities map[string]bool
	// host is the name to dial, as far as it is known.
	host value
	// userTyped is true where the user stood before the @ of the destination, and no -o said
	// otherwise.
	userTyped bool

	// finalPass is true in the second pass over the files, which has the canonical name (Match
	// canonical, Match final).
	finalPass bool
	// wantFinalPass is true once a Match line has asked for the second pass.
	wantFinalPass bool

	// blocks is what the Host and Match lines have shown so far.
	blocks blocks

	// active is true where the current line counts, because the Host or Match block around it
	// applies.
	active bool
	// inUserFile is true while the current line is in the user's file, in a file that this one
	// includes, or on the command line.
	inUserFile bool
	// origin is the place of the current line.
	origin Origin
}

// blocks is what Host and Match lines show, whatever stands below them.
type blocks struct {
	// patterns are those of all Host lines, in their order.
	patterns []string
	// named is true once a line has matched that does not match every name.
	named bool
}

// set gives a keyword its values, if the line counts and the keyword has none yet: the first ones
// win.
func (e *evaluation) set(keyword string, texts ...string) {
	if e.active {
		e.values.set(keyword, e.origin, texts...)
	}
}

// user returns the remote user as far as it is known.
func (e *evaluation) user() string {
	if u := e.values.first("user"); u != "" {
		return u
	}
	return e.local.user
}

// port returns the remote port as far as it is known.
func (e *evaluation) port() int {
	if n, err := strconv.Atoi(e.values.first("port")); err == nil {
		return n
	}
	return 22
}

// jumpHost returns the host of the last hop, as far as it is known: %j.
func (e *evaluation) jumpHost() string {
	jumps := e.values.texts("proxyjump")
	if len(jumps) == 0 || jumps[0] == "none" {
		return ""
	}
	t, _ := parseHop(jumps[len(jumps)-1])
	return t.host
}

// commandLine takes in what the target brings: -J, -o, user and port, in the order in which ssh
// looks at them.
func (e *evaluation) commandLine(ctx context.Context) error {
	t := e.target
	e.active, e.inUserFile, e.origin = true, true, t.origin
	if t.isHop { // -W implies the first two, and the -l and -p of a jump host stand before its name
		e.set("sessiontype", "none")
		e.set("requesttty", "false")
		if t.port != 0 {
			e.set("port", strconv.Itoa(t.port))
		}
	}
	if t.jump != "" {
		if err := e.setJumps(&directive{origin: t.origin, keyword: "proxyjump", rest: t.jump}, true); err != nil {
			return err
		}
	}
	for _, option := range t.options {
		d, err := parseLine(Origin{Kind: FromCommandLine}, option)
		if err != nil {
			return err
		}
		if d == nil {
			continue
		}
		switch d.keyword {
		case "host", "match", "include":
			return d.errorf("%s cannot stand on the command line", d.keyword)
		}
		if err := e.directive(ctx, d, reading{}); err != nil {
			return err
		}
	}
	e.origin = t.origin
	if e.values.isSet("user") { // by -o, whose user ssh checks in the same way
		t.user = e.values.first("user")
	} else if t.user != "" {
		e.set("user", t.user)
		e.userTyped = true
	}
	if t.port != 0 {
		e.set("port", strconv.Itoa(t.port))
	}
	if err := t.check(); err != nil {
		return t.origin.errorf("%v", err)
	}
	e.host = value{t.host, t.origin}
	return nil
}

// reading says how a file is read.
type reading struct {
	// anyOwner turns off the check that the file belongs to us or to root, and that nobody else may
	// write it.
	anyOwner bool
	// parseOnly says that the lines are checked and count for nothing.
	parseOnly bool
	// depth is the number of Include lines above the file.
	depth int
}

// files reads the user's and the system's file. It is called once for each pass.
func (e *evaluation) files(ctx context.Context) error {
	r := e.resolver
	if r.UserFile != "" {
		e.active, e.inUserFile = true, true
		// With -F the owner is not checked: the user has named the file deliberately (ssh.c,
		// process_config_files).
		err := e.file(ctx, r.UserFile, reading{anyOwner: r.UserFileRequired})
		if err := e.afterFile(r.UserFile, r.UserFileRequired, err); err != nil {
			return err
		}
	}
	if r.SystemFile != "" {
		// The last block of the user's file ends with that file.
		e.active, e.inUserFile = true, false
		err := e.file(ctx, r.SystemFile, reading{anyOwner: true})
		if err := e.afterFile(r.SystemFile, false, err); err != nil {
			return err
		}
	}
	return nil
}

// afterFile turns the error of a file that cannot be opened into nil, unless the file is required.
func (e *evaluation) afterFile(name string, required bool, err error) error {
	switch {
	case err == nil || !isOpenError(err):
		return err
	case required:
		return &Error{File: name, Msg: display.Reason(err).Error()}
	default:
		e.resolver.log().Debug("ssh_config file is not read", "file", name, "err", err)
		return nil
	}
}

// isOpenError tells whether a file could not be opened at all.
func isOpenError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// maxDepth bounds how deep files may include each other. It is OpenSSH's READCONF_MAX_DEPTH.
const maxDepth = 16

// maxConfig is the largest file that is read, in bytes. Real ones have some thousand.
const maxConfig = 4 << 20

// file evaluates one file. If the file cannot be opened, the error is an *fs.PathError.
func (e *evaluation) file(ctx context.Context, name string, how reading) error {
	text, err := readConfig(name, how)
	if err != nil {
		return err
	}
	directives, err := parseConfig(name, text)
	if err != nil {
		return err
	}
	for _, d := range directives {
		if err := e.directive(ctx, d, how); err != nil {
			return err
		}
	}
	return nil
}

// readConfig returns the text of a file without its last newline.
func readConfig(name string, how reading) (string, error) {
	if how.depth > maxDepth {
		return "", &Error{File: name, Msg: fmt.Sprintf("files include each other more than %d deep", maxDepth), everywhere: true}
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !how.anyOwner && !ownedSafely(info) {
		return "", &Error{File: name, Msg: "it belongs to somebody else, or others may write it; ssh refuses it, too"}
	}
	if info.IsDir() { // the pattern of an Include met it; ssh reads it as an empty file
		return "", nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return "", &Error{File: name, Msg: display.Reason(err).Error()}
	}
	if len(text) > maxConfig {
		return "", &Error{File: name, Msg: fmt.Sprintf("larger than %d bytes", maxConfig)}
	}
	return string(bytes.TrimSuffix(text, []byte("\n"))), nil
}

// directive evaluates one line.
func (e *evaluation) directive(ctx context.Context, d *directive, how reading) error {
	e.origin = d.origin
	var err error
	switch d.keyword {
	case "host":
		err = e.hostBlock(d, how)
	case "match":
		err = e.matchBlock(ctx, d, how)
	case "include":
		err = e.include(ctx, d, how)
	default:
		if name := keywordAliases[d.keyword]; name != "" {
			d.keyword = name
		}
		set := setters[d.keyword]
		if set == nil {
			return e.unknown(d)
		}
		if err = d.fault; err == nil {
			err = set(e, d)
		}
	}
	// Every setter takes what it understands off the front.
	if err == nil && len(d.args) > 0 {
		err = d.errorf("%s has too many arguments, from %q on", d.keyword, display.Cut(d.args[0]))
	}
	return d.tolerate(e, how, err)
}

// tolerate decides whether the fault of a line matters. ssh refuses the whole file for it. But a
// fault in a line that does not apply says nothing about this host, and neither does one in a
// keyword without effect: the next release of OpenSSH may know the value.
func (d *directive) tolerate(e *evaluation, how reading, err error) error {
	fault, ok := errors.AsType[*Error](err)
	beginsBlock := d.keyword == "host" || d.keyword == "match" // their faults come before the block is known
	switch {
	case !ok || fault.everywhere || d.origin.Kind != FromFile:
		return err
	case how.parseOnly || !e.active && !beginsBlock:
		return nil
	case withoutEffect[d.keyword]:
		e.resolver.skipped(d.origin, d.keyword, err)
		return nil
	}
	return err
}

// unknown warns about a keyword that is not in the table, if its line applies. On the command line,
// where it can only be a typing error, it is refused.
func (e *evaluation) unknown(d *directive) error {
	if !e.active || matchList(d.keyword, e.values.first("ignoreunknown"), true) == 1 {
		return nil
	}
	if d.origin.Kind != FromFile {
		return d.errorf("unknown keyword %q", display.Cut(d.keyword))
	}
	e.resolver.skipped(d.origin, d.keyword, ErrUnknownKeyword)
	return nil
}

// ErrUnknownKeyword is why a line is skipped that OpenSSH does not know either: the attribute err
// of what [Resolver.Log] receives.
var ErrUnknownKeyword = errors.New("unknown keyword")

// skipped warns, once, about something in a line that is left out.
func (r *Resolver) skipped(origin Origin, keyword string, reason error) {
	fault, ok := errors.AsType[*Error](reason)
	if ok {
		reason = errors.New(fault.Msg) // the place is told by attributes
	}
	if _, again := r.warned.LoadOrStore(origin.String()+" "+keyword+" "+reason.Error(), true); again {
		return
	}
	log := r.log().With("keyword", display.Cut(keyword), "err", reason)
	if origin.Kind == FromFile {
		log = log.With("file", origin.File, "line", origin.Line)
	}
	log.Warn("a part of ssh_config is skipped")
}

// hostBlock begins the block of a Host line. The block applies to names that match one of its
// patterns, but to none that match a pattern behind a '!'.
func (e *evaluation) hostBlock(d *directive, how reading) error {
	e.active = false
	e.blocks.patterns = append(e.blocks.patterns, d.args...)
	named := false // by a pattern that does not match every name
	for len(d.args) > 0 {
		pattern, ok := d.next()
		if !ok {
			return d.errorf("host has an empty pattern")
		}
		if how.parseOnly {
			break
		}
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !matchPattern(e.host.text, pattern) {
			continue
		}
		// A negated pattern decides at once. After a plain one, a negated one may still follow.
		if e.active = !negated; negated {
			break
		}
		named = named || pattern != "*"
	}
	e.blocks.named = e.blocks.named || e.active && named
	d.args = nil
	return nil
}
