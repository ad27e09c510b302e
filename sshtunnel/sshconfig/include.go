package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/sshtunnel/display"
)

// include evaluates other files in the place of an Include line. Inside a block that does not
// apply, their lines are checked and count for nothing. A file that does not exist is skipped,
// because a pattern may match nothing.
func (e *evaluation) include(ctx context.Context, d *directive, how reading) error {
	active := e.active
	inner := reading{parseOnly: !active, depth: how.depth + 1}
	for len(d.args) > 0 {
		arg, ok := d.next()
		if !ok {
			return d.errorf("include has an empty argument")
		}
		names, err := e.glob(arg)
		if errors.Is(err, errNoVariable) {
			e.resolver.log().Warn("include is skipped", "file", d.origin.File, "line", d.origin.Line, "err", err)
			continue
		}
		if err != nil {
			return d.errorf("include: %v", err)
		}
		for _, name := range names {
			err := e.file(ctx, name, inner)
			e.active = active // a Host or Match block of that file ends with the file
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

// glob returns the files that an argument of Include names, in order. A relative name lies in
// ~/.ssh for the user's file, and beside the system's file for that one (ssh_config(5), Include).
func (e *evaluation) glob(arg string) ([]string, error) {
	host, err := e.matchHost()
	if err != nil {
		return nil, err
	}
	pattern, err := expand(arg, e.tokensFor(host), e.resolver.getenv)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.HasPrefix(pattern, "~"):
		if !e.inUserFile {
			return nil, fmt.Errorf("%q: the system's file cannot use ~", display.Cut(pattern))
		}
		if pattern, err = e.local.expandTilde(pattern); err != nil {
			return nil, nil // there is no such user; glob(3) then looks for a file with that name, and finds none
		}
	case strings.HasPrefix(pattern, "/") || filepath.IsAbs(pattern):
	case e.inUserFile:
		pattern = filepath.Join(e.local.home, ".ssh") + "/" + pattern
	default:
		pattern = filepath.Dir(e.resolver.SystemFile) + "/" + pattern
	}
	// filepath.Glob differs from glob(3) in negated classes, hidden files and slashes in a row.
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

// hiddenByGlob tells whether a wildcard of the pattern stands for a leading dot, which glob(3) does
// not allow.
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
