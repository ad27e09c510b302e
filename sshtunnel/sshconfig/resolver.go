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

// Resolver evaluates ssh_config files as OpenSSH 10 does (readconf.c, ssh_config(5)).
// Its zero value reads no file. Safe for concurrent use.
//
// Each destination is evaluated on its own, from the files as they are then. A keyword that OpenSSH does
// not know is logged once and skipped, where ssh refuses the file; everything else that ssh refuses is a
// [Error].
type Resolver struct {
	UserFile         string              // ~/.ssh/config, or the file of -F; "" none
	SystemFile       string              // /etc/ssh/ssh_config; "" none (as with -F)
	UserFileRequired bool                // UserFile was named by -F: its absence is an error, its owner may be anybody
	Options          []string            // -o KEY=VALUE, first ones win; they hold for the destination, not for its jump hosts
	Jump             string              // -J: hops, comma separated; "" from the files
	Home             string              // the local user's home directory; "" from the system's user database
	User             string              // the local user's name; "" the process's
	UID              string              // the local user's number, for %i; "" the process's
	LocalHostname    string              // for %l and %L; "" the system's
	Getenv           func(string) string // nil: no environment. Commands of Match exec inherit the process's
	Log              *slog.Logger        // warnings about keywords we do not know; nil discards

	warned sync.Map // "file:line" of keywords that were warned about

	// Stand-ins for tests; nil: the real ones.
	release *release
	run     func(ctx context.Context, command string) (bool, error)
	lookup  func(ctx context.Context, name string) (canonical string, err error)
	addrs   func() ([]netip.Addr, error)
}

// Error says that the configuration, not the network, is at fault.
type Error struct {
	File string // "" the command line
	Line int    // 0 no particular line
	Msg  string
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

// Resolve returns the configuration of one destination: an alias, [user@]host[:port] or ssh://.
// The context bounds commands of Match exec and DNS lookups for CanonicalizeHostname.
// The error is a *Error, or the cause of the context's end.
func (r *Resolver) Resolve(ctx context.Context, destination string) (*Host, error) {
	t, err := r.destination(destination)
	if err != nil {
		return nil, err
	}
	return r.resolve(ctx, t)
}

// maxHops ends a chain whose hop names grow for ever (ProxyJump with %h).
const maxHops = 64

// Chain returns all hosts to pass, the first to be dialed first and the destination last.
//
// OpenSSH reaches a host with ProxyJump a,b by running `ssh -J a -W host:port b`, which runs `ssh -W ... a`
// in turn. So each hop is evaluated like a destination of its own, without -o; the -J overrides what the files
// say for b; and only a, which has none, may have a ProxyJump or ProxyCommand of its own.
func (r *Resolver) Chain(ctx context.Context, destination string) ([]*Host, error) {
	t, err := r.destination(destination)
	if err != nil {
		return nil, err
	}
	var chain []*Host // destination first
	seen := make(map[string]bool)
	for {
		h, err := r.resolve(ctx, t)
		if err != nil {
			if len(chain) > 0 {
				return nil, fmt.Errorf("jump host %s: %w", t, err)
			}
			return nil, err
		}
		chain = append([]*Host{h}, chain...)
		n := len(h.ProxyJump)
		if n == 0 {
			return chain, nil
		}
		if t, err = parseHop(h.ProxyJump[n-1]); err != nil {
			return nil, &Error{Msg: fmt.Sprintf("jump hosts of %s: %v", h.Alias, err)}
		}
		t.isHop = true
		t.jump = strings.Join(h.ProxyJump[:n-1], ",")
		key := t.String() + " " + t.jump
		if seen[key] || len(chain) > maxHops {
			return nil, &Error{Msg: fmt.Sprintf("jump host loop: the way to %s leads through %s again", h.Alias, t)}
		}
		seen[key] = true
	}
}

func (r *Resolver) destination(s string) (target, error) {
	t, err := parseDestination(s)
	if err != nil {
		return t, &Error{Msg: err.Error()}
	}
	t.options, t.jump = r.Options, r.Jump
	return t, nil
}

// resolve does for one target what ssh does before it connects.
func (r *Resolver) resolve(ctx context.Context, t target) (*Host, error) {
	e := &evaluation{r: r, target: t, release: r.release, values: make(map[string][]string), seen: make(map[string]bool)}
	if e.release == nil {
		e.release = &openSSH10
	}
	if err := e.commandLine(ctx); err != nil {
		return nil, err
	}
	if err := e.files(ctx); err != nil {
		return nil, err
	}
	if err := e.canonicalize(ctx); err != nil {
		return nil, err
	}
	if e.wantFinal || e.canonicalizes() {
		e.final = true
		e.values["hostname"] = []string{e.host}
		if err := e.files(ctx); err != nil {
			return nil, err
		}
	}
	return e.finish()
}

// local fills in what the caller left to the system.
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

func (r *Resolver) getenv(name string) string {
	if r.Getenv == nil {
		return ""
	}
	return r.Getenv(name)
}

func (r *Resolver) log() *slog.Logger {
	if r.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return r.Log
}

func (r *Resolver) exec() func(context.Context, string) (bool, error) {
	if r.run != nil {
		return r.run
	}
	return r.runShell
}

func (r *Resolver) interfaceAddrs() ([]netip.Addr, error) {
	if r.addrs != nil {
		return r.addrs()
	}
	return interfaceAddrs()
}

// lookupHost resolves a name and returns its canonical one, "" where there is none.
func (r *Resolver) lookupHost(ctx context.Context, name string) (string, error) {
	if r.lookup != nil {
		return r.lookup(ctx, name)
	}
	if _, err := net.DefaultResolver.LookupHost(ctx, name); err != nil {
		return "", err
	}
	canonical, _ := net.DefaultResolver.LookupCNAME(ctx, name)
	return strings.TrimSuffix(canonical, "."), nil
}
