package sshconfig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// evaluation is one destination's way through the files. Values are kept in the form that `ssh -G` prints.
type evaluation struct {
	r       *Resolver
	target  target
	release *release

	host   string // the name to be dialed, as far as it is known
	final  bool   // this is the second pass, with the canonical name (Match final, canonical)
	active bool   // the lines at hand count: their block matches

	userFile        bool // the line at hand is of the user's file
	wantFinal       bool // a Match asks for a second pass
	userCommandLine bool // the user was named before @, not in a file or -o

	values   map[string][]string // by keyword
	seen     map[string]bool     // of IdentityFile and CertificateFile
	forwards []forward
}

// set gives a keyword its value, where the line counts and the keyword has none yet: the first one wins.
func (e *evaluation) set(keyword string, values ...string) {
	if e.active && !e.isSet(keyword) {
		e.values[keyword] = values
	}
}

func (e *evaluation) isSet(keyword string) bool { return len(e.values[keyword]) > 0 }

// first is a keyword's first value, "" where it is unset.
func (e *evaluation) first(keyword string) string {
	if v := e.values[keyword]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// user is the remote user as far as it is known.
func (e *evaluation) user() string {
	if u := e.first("user"); u != "" {
		return u
	}
	return e.r.local().user
}

// port is the remote port as far as it is known.
func (e *evaluation) port() int {
	if n, err := strconv.Atoi(e.first("port")); err == nil {
		return n
	}
	return 22
}

// jumpHost is %j: the host of the last hop.
func (e *evaluation) jumpHost() string {
	jumps := e.values["proxyjump"]
	if len(jumps) == 0 || jumps[0] == "none" {
		return ""
	}
	t, _ := parseHop(jumps[len(jumps)-1])
	return t.host
}

// commandLine takes in the target: -J, -o, user and port, in the order in which ssh looks at them.
func (e *evaluation) commandLine(ctx context.Context) error {
	e.active, e.userFile = true, true
	t := e.target
	if t.isHop { // what -W brings with it
		e.set("sessiontype", "none")
		e.set("requesttty", "false")
		if t.port != 0 { // -l and -p stand before the host
			e.set("port", strconv.Itoa(t.port))
		}
	}
	if t.jump != "" {
		if err := setProxyJump(e, &directive{keyword: "proxyjump", rest: t.jump}); err != nil {
			return err
		}
	}
	for _, option := range t.options {
		d, err := parseLine("", 0, option)
		if err != nil {
			return err
		}
		if d == nil {
			continue
		}
		switch d.keyword {
		case "host", "match", "include":
			return d.errorf("%s is no option for the command line", d.keyword)
		}
		if err := e.directive(ctx, d, false, 0); err != nil {
			return err
		}
	}
	if t.user != "" && !e.isSet("user") {
		e.set("user", t.user)
		e.userCommandLine = true
	}
	if t.port != 0 {
		e.set("port", strconv.Itoa(t.port))
	}
	if err := t.check(); err != nil {
		return &Error{Msg: err.Error()}
	}
	e.host = t.host
	return nil
}

// files reads the user's and the system's file, once for each pass.
func (e *evaluation) files(ctx context.Context) error {
	r := e.r
	for _, f := range []struct {
		name                     string
		user, required, ownerful bool
	}{
		{r.UserFile, true, r.UserFileRequired, !r.UserFileRequired},
		{r.SystemFile, false, false, false},
	} {
		if f.name == "" {
			continue
		}
		e.active, e.userFile = true, f.user
		err := e.file(ctx, f.name, f.ownerful, false, 0)
		switch {
		case err == nil:
		case f.required && isOpenError(err):
			return &Error{File: f.name, Msg: openReason(err)}
		case isOpenError(err):
			r.log().Debug("ssh_config file is not read", "file", f.name, "err", err)
		default:
			return err
		}
	}
	return nil
}

// maxDepth bounds Include, like READCONF_MAX_DEPTH.
const maxDepth = 16

// maxConfig bounds a file, in bytes. Real ones have some thousand.
const maxConfig = 4 << 20

// file evaluates one file. With parseOnly nothing in it counts. An error to open it is a *fs.PathError.
func (e *evaluation) file(ctx context.Context, name string, checkOwner, parseOnly bool, depth int) error {
	if depth > maxDepth {
		return &Error{File: name, Msg: fmt.Sprintf("files include each other more than %d deep", maxDepth)}
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if checkOwner && !ownedSafely(info) {
		return &Error{File: name, Msg: "others than you may write it, or it is not yours; ssh refuses it, too"}
	}
	if info.IsDir() { // an Include pattern met it; reads as an empty file
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return &Error{File: name, Msg: openReason(err)}
	}
	if len(text) > maxConfig {
		return &Error{File: name, Msg: fmt.Sprintf("larger than %d bytes", maxConfig)}
	}
	directives, err := parseConfig(name, string(bytes.TrimSuffix(text, []byte("\n"))))
	if err != nil {
		return err
	}
	for _, d := range directives {
		if err := e.directive(ctx, d, parseOnly, depth); err != nil {
			return err
		}
	}
	return nil
}

// directive evaluates one line.
func (e *evaluation) directive(ctx context.Context, d *directive, parseOnly bool, depth int) error {
	var err error
	switch d.keyword {
	case "host":
		err = e.hostBlock(d, parseOnly)
	case "match":
		var matched bool
		matched, err = e.match(ctx, d, parseOnly)
		e.active = matched && !parseOnly
	case "include":
		err = e.include(ctx, d, depth)
	default:
		if name := keywordAliases[d.keyword]; name != "" {
			d.keyword = name
		}
		set := setters[d.keyword]
		if set == nil {
			return e.unknown(d)
		}
		err = set(e, d)
	}
	if err == nil && len(d.args) > 0 {
		err = d.errorf("%s has too many arguments, from %q on", d.keyword, cut(d.args[0]))
	}
	return err
}

// unknown warns about a keyword that is not in the table. On the command line, where it is but
// a slip of the pen, it is refused.
func (e *evaluation) unknown(d *directive) error {
	if matchList(d.keyword, e.first("ignoreunknown"), true) == 1 {
		return nil
	}
	if d.file == "" {
		return d.errorf("unknown keyword %q", cut(d.keyword))
	}
	if _, again := e.r.warned.LoadOrStore(fmt.Sprintf("%s:%d", d.file, d.line), true); !again {
		e.r.log().Warn("unknown keyword in ssh_config", slog.String("file", d.file), slog.Int("line", d.line),
			slog.String("keyword", cut(d.keyword)))
	}
	return nil
}

// hostBlock begins a block for the names that match one of the patterns, and none that begins with '!'.
func (e *evaluation) hostBlock(d *directive, parseOnly bool) error {
	e.active = false
	for len(d.args) > 0 {
		pattern, ok := d.next()
		if !ok {
			return d.errorf("host has an empty pattern")
		}
		if parseOnly {
			break
		}
		pattern, negated := strings.CutPrefix(pattern, "!")
		if !matchPattern(e.host, pattern) {
			continue
		}
		if e.active = !negated; negated {
			break
		}
	}
	d.args = nil
	return nil
}

// include evaluates other files in the place of the line. Inside a block that does not match they are only checked.
func (e *evaluation) include(ctx context.Context, d *directive, depth int) error {
	active := e.active
	for len(d.args) > 0 {
		arg, ok := d.next()
		if !ok {
			return d.errorf("include has an empty argument")
		}
		names, err := e.glob(arg)
		if errors.Is(err, errNoVariable) {
			e.r.log().Warn("include is skipped", "file", d.file, "line", d.line, "err", err)
			continue
		}
		if err != nil {
			return d.errorf("include: %v", err)
		}
		for _, name := range names {
			err := e.file(ctx, name, true, !active, depth+1)
			e.active = active // a Host or Match of that file ends with it
			if isOpenError(err) && !errors.Is(err, fs.ErrNotExist) {
				return d.errorf("include: %v", err)
			}
			if err != nil && !isOpenError(err) {
				return err
			}
		}
	}
	return nil
}

// glob returns the files that an Include argument names, in order.
func (e *evaluation) glob(arg string) ([]string, error) {
	host, err := e.matchHost()
	if err != nil {
		return nil, err
	}
	keyAlias := host
	if alias := e.first("hostkeyalias"); alias != "" {
		keyAlias = alias
	}
	pattern, err := expand(arg, e.tokens(host, keyAlias, e.jumpHost()), e.r.getenv)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(pattern, "~"):
		if !e.userFile {
			return nil, fmt.Errorf("%q: no ~ in the system's file", cut(pattern))
		}
		if pattern, err = e.r.expandTilde(pattern); err != nil {
			return nil, nil // glob(3) then looks for a file of that name
		}
	case absolute(pattern):
	case e.userFile:
		pattern = filepath.Join(e.r.local().home, ".ssh") + "/" + pattern
	default:
		pattern = filepath.Dir(e.r.SystemFile) + "/" + pattern
	}
	// filepath.Glob is glob(3) but for negated classes, hidden files and slashes in a row.
	pattern = strings.ReplaceAll(filepath.Clean(pattern), "[!", "[^")
	found, err := filepath.Glob(pattern)
	if err != nil { // a bracket that is not closed stands for itself
		if _, err := os.Lstat(pattern); err == nil {
			found = []string{pattern}
		}
	}
	visible := found[:0]
	for _, name := range found {
		if !hiddenByGlob(pattern, name) {
			visible = append(visible, name)
		}
	}
	return visible, nil
}

// hiddenByGlob tells whether a wildcard of the pattern stands for a leading dot: glob(3) does not allow it.
func hiddenByGlob(pattern, name string) bool {
	parts := strings.Split(pattern, string(filepath.Separator))
	for i, part := range strings.Split(name, string(filepath.Separator)) {
		if i < len(parts) && strings.HasPrefix(part, ".") &&
			!strings.HasPrefix(strings.TrimPrefix(parts[i], `\`), ".") {
			return true
		}
	}
	return false
}

// isOpenError tells whether a file could not be opened at all.
func isOpenError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// openReason is the error without the path, which stands before it.
func openReason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}
