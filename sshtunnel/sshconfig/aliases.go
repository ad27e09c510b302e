package sshconfig

import (
	"context"
	"slices"
	"strings"
)

// aliasProbe is the destination that Aliases evaluates. No pattern but * matches it.
const aliasProbe = "\x01"

// Aliases lists the names that Host lines give without a wildcard, in the order of the files and
// once each. It reads included files, too. It runs no command of Match exec, and looks up no name.
// What it could read before an error is returned.
func (r *Resolver) Aliases(ctx context.Context) []string {
	quiet := &Resolver{
		UserFile: r.UserFile, SystemFile: r.SystemFile, UserFileRequired: r.UserFileRequired,
		Home: r.Home, User: r.User, UID: r.UID, LocalHostname: r.LocalHostname, Getenv: r.Getenv,
	}
	quiet.system.run = func(context.Context, string) (bool, error) { return false, nil }
	e := quiet.evaluation(target{host: aliasProbe})
	e.host = value{text: aliasProbe}
	e.files(ctx) // an error ends the reading, and the names before it are good
	var names []string
	for _, pattern := range e.blocks.patterns {
		if pattern != "" && !strings.ContainsAny(pattern, "*?!") && !slices.Contains(names, pattern) {
			names = append(names, pattern)
		}
	}
	return names
}

// Named reports whether a Host or Match line of the files is meant for this host: one that matches,
// and would not match any name.
func (h *Host) Named() bool { return h.named }
