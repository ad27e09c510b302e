package farbrowser

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
)

// Config says what is to be opened.
type Config struct {
	// Link is the login page, an http or https URL at its server.
	Link string
	// Start is what the browser opens: a page on loopback that leads to Link, so that the link
	// does not stand among the browser's arguments, which everybody on the machine can read. If it
	// is empty, the browser opens Link.
	Start string
	// Far dials through the far side as net.Dialer.DialContext does. If it is nil, every login
	// server is taken to be reached from here.
	Far func(ctx context.Context, network, addr string) (net.Conn, error)
	// Key names the person's account on the far side. Each key has a profile of its own, because
	// the same name may be another server in another network.
	Key string
	// Until is when the login ends without an answer. A zero Until means fifteen minutes from now.
	Until time.Time
	// NoBrowser says that no browser is to be started. Then there is only the PAC file.
	NoBrowser bool
	// Named are the programs of browsers that the person has named. Those that take a PAC file come
	// first.
	Named []string
	// NamedOnly says that the person wants no other browser, if one is named.
	NamedOnly bool
	// Env is the environment of the process.
	Env environment.Environment
	// StateDir is the directory below which the profiles are kept. If it is empty, no browser is
	// started.
	StateDir string
	// Log must not be nil.
	Log *slog.Logger
}

// Way is how a login page is reached.
type Way int

const (
	// Direct: from this machine. Any browser will do, and Open has opened none.
	Direct Way = iota
	// Nowhere: neither from this machine nor through the far side. Open has opened nothing.
	Nowhere
	// Opened: a browser with a profile of ours shows it.
	Opened
	// ByPAC: a browser that uses the PAC file shows it. Open has opened none.
	ByPAC
)

// Result is what Open did.
type Result struct {
	// Way is how the login page is reached.
	Way Way
	// Host is the host of the login page, for words.
	Host string
	// Browser is the name of the browser. It is empty unless Way is Opened.
	Browser string
	// PAC is the URL of a PAC file for a browser of the person's choice. It serves until the
	// context ends. It is empty unless Way is ByPAC.
	PAC string
	// Why says why no browser was opened, or why the page is reached nowhere. It is nil if Way is
	// Direct or Opened.
	Why error
}

// The reasons why no browser was opened.
var (
	// ErrNotAsked: the person wants none, or another one.
	ErrNotAsked = errors.New("no browser was asked for")
	// ErrNoBrowser: this machine has none that takes a PAC file, or no display.
	ErrNoBrowser = errors.New("no Chromium, Chrome, Brave, Edge, Vivaldi or Firefox can be started here")
	// ErrNoState: there is no directory for a profile.
	ErrNoState = errors.New("no state directory for a browser profile")
)

// ErrLink says that the link is no http or https URL, or has a user name in front of its host.
var ErrLink = errors.New("no link for a browser")

// defaultUntil is how long a PAC file names its proxy if nobody knows when the login ends.
const defaultUntil = 15 * time.Minute

// Open finds out on which side a login server is reached. If that is the far side alone, Open opens
// the page in a browser whose connections to that server go there, and returns when the browser is
// up. The connections, and the PAC file, last until ctx ends. The browser does not end.
//
// The error says that the link cannot be used, or that this machine cannot serve the browser.
func Open(ctx context.Context, cfg Config) (Result, error) {
	link, err := url.Parse(cfg.Link)
	if err != nil {
		return Result{}, errors.Unwrap(err) // the error of Parse holds the link, and that the state
	}
	if link.Scheme != "http" && link.Scheme != "https" || link.Host == "" || link.User != nil {
		return Result{}, ErrLink
	}
	host := canonical(link.Hostname())
	result := Result{Host: host}
	if cfg.Far == nil || isOurs(host) {
		return result, nil
	}
	sides := newSides(cfg.Far, host, cfg.Log)
	sides.proxies = cfg.Env.Proxies()
	at, err := find(ctx, sides, net.JoinHostPort(host, portOf(link)))
	if _, ok := errors.AsType[*AddressError](err); ok {
		return result, nil // not for the proxy; the person's own browser may still know a way
	}
	if err != nil {
		result.Way, result.Why = Nowhere, err
		return result, nil
	}
	if at == near {
		return result, nil
	}
	if cfg.Until.IsZero() {
		cfg.Until = time.Now().Add(defaultUntil)
	}
	p := newProxy(ctx, sides, cfg.Until, cfg.Log)
	if result.Browser, result.Why = cfg.openBrowser(ctx, p, link); result.Why == nil {
		result.Way = Opened
		return result, nil
	}
	if ctx.Err() != nil {
		return result, context.Cause(ctx)
	}
	addr, _, err := p.serve(0)
	if err != nil {
		return result, fmt.Errorf("local proxy: %w", err)
	}
	result.Way, result.PAC = ByPAC, "http://"+addr+p.pacPath
	return result, nil
}

// openBrowser opens the first browser that starts, and returns its name.
func (cfg *Config) openBrowser(ctx context.Context, p *proxy, link *url.URL) (name string, err error) {
	switch {
	case cfg.NoBrowser:
		return "", ErrNotAsked
	case cfg.StateDir == "":
		return "", ErrNoState
	}
	l := launcher{link: cmp.Or(cfg.Start, cfg.Link), proxy: p}
	// The program's arguments hold the PAC file, and everybody on the machine can read them.
	_, addressErr := netip.ParseAddr(p.sides.login)
	if link.Scheme == "http" || addressErr == nil {
		l.hosts = []string{p.sides.login}
	}
	browsers := preferred(installed(cfg.Env), cfg.Named, cfg.NamedOnly)
	if err = ErrNoBrowser; len(browsers) == 0 && cfg.NamedOnly && len(cfg.Named) > 0 {
		err = ErrNotAsked
	}
	for _, l.browser = range browsers {
		openErr := l.take(ctx, cfg)
		if openErr == nil {
			return l.browser.name, nil
		}
		cfg.Log.Debug("a browser could not be opened", "browser", l.browser.name, "err", openErr)
		err = fmt.Errorf("%s: %w", l.browser.name, openErr)
		// One that is up and waits for something must not be followed by another window.
		if ctx.Err() != nil || errors.Is(openErr, errSilent) {
			return "", err
		}
	}
	return "", err
}

// take opens the browser with the first profile that can be had. The profile is held until ctx
// ends.
func (l *launcher) take(ctx context.Context, cfg *Config) error {
	for number := 1; ; number++ {
		var err error
		if l.profile, err = takeProfile(ctx, cfg.StateDir, l.browser, cfg.Key, number); err != nil {
			return err
		}
		held := l.profile
		if err = l.open(ctx); err == nil {
			err = held.hold()
		}
		if err == nil {
			context.AfterFunc(ctx, func() { held.Close() })
			return held.unlock()
		}
		held.Close()
		if !errors.Is(err, errInUse) || number == maxProfiles {
			return err
		}
	}
}

// findTimeout bounds the first connection. Only after it is a page opened in the usual way.
const findTimeout = 15 * time.Second

// find makes a first connection to addr, which is at the host of the login page, and returns the
// side.
func find(ctx context.Context, s *sides, addr string) (side, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	conn, err := s.dial(ctx, "tcp", addr)
	if err != nil {
		return unknown, err
	}
	conn.Close()
	p, err := s.place(s.login)
	if err != nil {
		return unknown, err
	}
	at, _ := p.where()
	return at, nil
}

// isOurs reports whether a host is this machine, as far as its text tells. A login server here is
// reached without a proxy.
func isOurs(host string) bool {
	e, ok := errors.AsType[*AddressError](checkHost(host, host))
	return ok && e.Reason == thisMachine
}

// portOf returns the port of a URL.
func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "http":
		return "80"
	}
	return "443"
}
