package sshconfig

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"sync"
)

// Resolver evaluates ssh_config files as OpenSSH 10 does. Its zero value reads no file. It is safe
// for concurrent use.
//
// Each destination is evaluated on its own, from the files as they are at that moment. An unknown
// keyword or algorithm is logged once and skipped, where ssh refuses the whole file. So is a bad
// value of a keyword that has no effect here, or in a line that does not apply. Everything else
// that ssh refuses is an [Error].
type Resolver struct {
	// UserFile is ~/.ssh/config, or the file of -F; "" is none.
	UserFile string
	// SystemFile is /etc/ssh/ssh_config; "" is none, as with -F.
	SystemFile string
	// UserFileRequired says that UserFile was named by -F: a missing file is an error, and its
	// owner may be anybody.
	UserFileRequired bool
	// Options are those of -o, each KEY=VALUE or "KEY VALUE"; the first one of a keyword wins. They
	// hold for the destination, not for its jump hosts.
	Options []string
	// Jump is the value of -J: jump hosts, separated by commas. "" leaves it to the files.
	Jump string

	// Home is the local user's home directory; "" asks the system's user database.
	Home string
	// User is the local user's name; "" is that of the process.
	User string
	// UID is the local user's number, for %i; "" is that of the process.
	UID string
	// LocalHostname is this machine's name, for %l and %L; "" asks the system.
	LocalHostname string
	// Getenv looks up environment variables; nil means that there are none. Commands of Match exec
	// inherit the environment of the process all the same.
	Getenv func(string) string
	// Log receives warnings about unknown keywords and values, which are skipped; nil discards
	// them.
	Log *slog.Logger

	// warned holds what was logged already about parts of the files that are skipped.
	warned sync.Map
	system system
}

// system is what a Resolver asks of the machine. Tests put their own functions in; the zero value
// is the real machine.
type system struct {
	// release is the OpenSSH to be like; nil is openSSH10.
	release *release
	// run tells whether a command of Match exec succeeds.
	run func(ctx context.Context, command string) (bool, error)
	// lookup resolves a name and returns its canonical name, or "" if it has none.
	lookup func(ctx context.Context, name string) (canonical string, err error)
	// addrs returns the addresses of this machine.
	addrs func() ([]netip.Addr, error)
}

// Error says that the configuration, not the network, is at fault.
type Error struct {
	// File is "" where the command line is at fault.
	File string `json:"file,omitempty"`
	// Line counts from 1; 0 is no particular line.
	Line int `json:"line,omitempty"`
	// Msg says what is wrong, in one line.
	Msg string `json:"msg"`
	// everywhere says that the fault counts also in lines that do not apply.
	everywhere bool
}

// Error says where, then what.
func (e *Error) Error() string {
	switch {
	case e.File == "":
		return "ssh configuration on the command line: " + e.Msg
	case e.Line == 0:
		return e.File + ": " + e.Msg
	default:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
}

// Resolve returns the configuration of one destination: an alias, [user@]host[:port] or an ssh://
// URI. ctx bounds the commands of Match exec and the DNS lookups of CanonicalizeHostname. The error
// is an *Error, the error of such a lookup, or the cause of the context's end.
func (r *Resolver) Resolve(ctx context.Context, destination string) (*Host, error) {
	t, err := r.destination(destination)
	if err != nil {
		return nil, err
	}
	return r.resolve(ctx, t)
}

// maxHops ends a chain whose hop names grow for ever, as ProxyJump x%h makes them.
const maxHops = 64

// Chain returns all hosts to pass, the first to be dialed first and the destination last. It takes
// the destinations that Resolve takes, and returns the same errors.
//
// OpenSSH reaches a host with ProxyJump a,b by running `ssh -J a -W host:port b`, which in turn
// runs `ssh -W ... a`. So each hop is evaluated like a destination of its own, without -o. The -J
// overrides what the files say for b. Only a, which gets no -J, may have a ProxyJump or
// ProxyCommand of its own.
func (r *Resolver) Chain(ctx context.Context, destination string) ([]*Host, error) {
	t, err := r.destination(destination)
	if err != nil {
		return nil, err
	}
	var chain []*Host
	seen := make(map[string]bool)
	for {
		h, err := r.resolve(ctx, t)
		if err != nil {
			if len(chain) > 0 {
				return nil, fmt.Errorf("jump host %s: %w", t, err)
			}
			return nil, err
		}
		// The chain is found from its end: a host names the hops before it.
		chain = append([]*Host{h}, chain...)
		last := len(h.ProxyJump) - 1
		if last < 0 {
			return chain, nil
		}
		origin := h.Origin("proxyjump")
		if t, err = parseHop(h.ProxyJump[last]); err != nil {
			return nil, origin.errorf("jump hosts of %s: %v", h.Alias, err)
		}
		t.origin, t.isHop = origin, true
		t.jump = strings.Join(h.ProxyJump[:last], ",")
		key := t.String() + " " + t.jump
		if seen[key] || len(chain) > maxHops {
			return nil, origin.errorf("jump host loop: %s is reached through %s again", h.Alias, t)
		}
		seen[key] = true
	}
}

// destination reads what the user typed, and adds the options of the command line.
func (r *Resolver) destination(s string) (target, error) {
	t, err := parseDestination(s)
	if err != nil {
		return t, &Error{Msg: err.Error()}
	}
	t.options, t.jump = r.Options, r.Jump
	t.origin = Origin{Kind: FromCommandLine}
	return t, nil
}

// resolve does for one target what ssh does before it connects.
func (r *Resolver) resolve(ctx context.Context, t target) (*Host, error) {
	e := r.evaluation(t)
	if err := e.commandLine(ctx); err != nil {
		return nil, err
	}
	if err := e.files(ctx); err != nil {
		return nil, err
	}
	if err := e.canonicalize(ctx); err != nil {
		return nil, err
	}
	if e.wantFinalPass || e.canonicalizes() {
		e.finalPass = true
		// Lines for the canonical name match now, but HostName itself cannot change any more.
		e.values["hostname"] = []value{e.host}
		if err := e.files(ctx); err != nil {
			return nil, err
		}
	}
	return complete(e)
}

// evaluation returns the evaluation of a target before its first line.
func (r *Resolver) evaluation(t target) *evaluation {
	return &evaluation{
		resolver: r, release: cmp.Or(r.system.release, &openSSH10), local: r.local(), target: t,
		values: make(values, len(keywords)), identities: make(map[string]bool),
	}
}

// local is what the files may ask about this side.
type local struct{ home, user, uid, hostname string }

// local returns the facts of the Resolver, and asks the system for those that are missing.
func (r *Resolver) local() local {
	l := local{home: r.Home, user: r.User, uid: r.UID, hostname: r.LocalHostname}
	if l.home == "" || l.user == "" || l.uid == "" {
		if u, err := user.Current(); err == nil {
			l.home, l.user, l.uid = cmp.Or(l.home, u.HomeDir), cmp.Or(l.user, u.Username), cmp.Or(l.uid, u.Uid)
		}
	}
	if l.hostname == "" {
		l.hostname, _ = os.Hostname()
	}
	return l
}

// getenv returns the value of an environment variable, and "" for a missing one.
func (r *Resolver) getenv(name string) string {
	if r.Getenv == nil {
		return ""
	}
	return r.Getenv(name)
}

// log returns the logger of the caller, or one that discards.
func (r *Resolver) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}

// lookupHost resolves a name and returns its canonical name, or "" if it has none. The name may
// stand in /etc/hosts, because ssh asks getaddrinfo(3).
func (r *Resolver) lookupHost(ctx context.Context, name string) (string, error) {
	if r.system.lookup != nil {
		return r.system.lookup(ctx, name)
	}
	if _, err := net.DefaultResolver.LookupHost(ctx, name); err != nil {
		return "", err
	}
	// A name without a canonical one is no failure: it was found already.
	canonical, _ := net.DefaultResolver.LookupCNAME(ctx, name)
	return strings.TrimSuffix(canonical, "."), nil
}
