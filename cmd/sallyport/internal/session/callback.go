package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
)

// listenFunc opens the listener for the callback of a login.
type listenFunc func(ctx context.Context, addr string) (net.Listener, error)

// listenHere listens on this machine.
func listenHere(ctx context.Context, addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// openCallback returns the function that begins a login: helpers hold its port, or the workstation
// of --callback-via does, or this machine.
func (s *Session) openCallback(ctx context.Context, cfg Config) (listenFunc, error) {
	listen := func(ctx context.Context, addr string, _ []string) (net.Listener, error) { return listenHere(ctx, addr) }
	var others map[string]func(context.Context) (net.Conn, error)
	if host := cfg.Settings.CallbackVia; host != "" {
		w, err := openWorkstation(ctx, s, cfg, host)
		if err != nil {
			return nil, err
		}
		s.workstation = w
		listen, others = w.listen, map[string]func(context.Context) (net.Conn, error){"--callback-via " + host: w.join}
	}
	if cfg.OnlyLooks { // no helper is told of a login
		if s.CallbackTunnel != nil { // it wants the workstation's answer itself
			return func(ctx context.Context, addr string) (net.Listener, error) {
				return s.CallbackTunnel.Listen(ctx, "tcp", addr)
			}, nil
		}
		return listenHere, nil
	}
	redirect, err := url.Parse(cfg.Settings.RedirectURI)
	elsewhere := err == nil && cfg.Settings.RedirectURI != "" && !IsLoopback(redirect.Hostname())
	if elsewhere { // somebody brings the callback to this machine
		return func(ctx context.Context, addr string) (net.Listener, error) { return listen(ctx, addr, nil) }, nil
	}
	var dial helper.DialFunc
	if cfg.Logins.Exit != nil {
		dial = cfg.Logins.Exit(s)
	}
	s.Logins = helper.NewLogins(helper.LoginsConfig{
		Dirs: helper.Dirs(cfg.SocketDirs, cfg.Env.UsualStateDir()), Upstream: PlainURL(s.Upstream), Others: others, Dial: dial, Log: cfg.Log,
		Deliver: func(ctx context.Context, u *url.URL) error { return s.SignIn.Deliver(ctx, u) },
		Belongs: func(err error) bool { return !errors.Is(err, oauth.ErrNoSignIn) },
		Explain: cfg.Explain, Token: func() string { return tokenName(s.SignIn) },
	})
	s.closers = append(s.closers, s.Logins.Close)
	fixed, addrs := isPortFixed(cfg.Settings), callbackPorts(cfg.Settings).Addrs(cfg.Settings.CallbackHost)
	return func(ctx context.Context, addr string) (net.Listener, error) {
		w := helper.Want{Addr: addr, Fixed: fixed, Listen: listen}
		if i := slices.Index(addrs, addr); i >= 0 && cfg.Settings.RedirectURI == "" {
			w.More = addrs[i+1:]
		}
		return s.Logins.Listen(ctx, w)
	}, nil
}

// tokenName names the token that is stored by when it expires. It is empty without a token.
func tokenName(t *oauth.Transport) string {
	if a, _ := t.Stored(); a.SignedIn {
		return "until " + a.Expiry.UTC().String()
	}
	return ""
}

// Forwarded reports whether the workstation of --callback-via listens for the login under way.
func (s *Session) Forwarded() bool {
	if s.workstation == nil {
		return false
	}
	s.workstation.mu.Lock()
	defer s.workstation.mu.Unlock()
	return s.workstation.forwarded
}

// codeBeside reports whether the login under way is to offer a device code beside its link. Nobody
// needs one while the callback finds its own way: a helper holds the port of the redirect URI, or
// the workstation listens there, or the redirect URI is that of somebody who brings the callback to
// this machine. The channel is closed when the answer may have changed.
func (s *Session) codeBeside() (wanted bool, changed <-chan struct{}) {
	if s.Logins == nil || s.Forwarded() {
		return false, nil
	}
	shown, changed := s.Logins.Shown()
	return shown.Holding == 0 && shown.Here, changed
}

// isPortFixed reports whether the person has chosen the port, or has a client that may be
// registered for it.
func isPortFixed(settings cli.Remote) bool {
	ports := settings.CallbackPort
	chosen := len(ports) > 1 || len(ports) == 1 && ports[0] != 0 && ports[0] != cli.DefaultCallbackPort
	return chosen || settings.RedirectURI != "" || settings.ClientID != "" || settings.ClientMetadataURL != ""
}

// offerBy returns what shows a prompt to the person and to the helpers.
func offerBy(s *Session, show Offer) func(context.Context, oauth.Prompt) {
	return func(ctx context.Context, p oauth.Prompt) {
		show(ctx, p, func(report func(helper.Shown)) {
			// A login with a code needs no port, and that of another process is offered there.
			if s.Logins == nil || p.RedirectURI == "" || p.Elsewhere {
				report(helper.Shown{})
				return
			}
			s.Logins.Offer(ctx, helper.Prompt{
				AuthorizeURL: p.AuthorizeURL, LinkExpires: p.LinkExpires, StartURL: p.StartURL, State: p.State,
				RedirectURI: p.RedirectURI, Issuer: p.Issuer, Expires: p.Expires,
			}, report)
		})
	}
}

// IsEverywhere reports whether a callback host stands for all addresses of this machine.
func IsEverywhere(host string) bool {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsUnspecified()
}

// checkCallbackHost refuses a callback host that others than this machine may reach. A container
// has a network of its own, where all addresses are those that somebody has published on purpose.
func checkCallbackHost(host string, env environment.Environment) error {
	bare, everywhere := strings.Trim(host, "[]"), IsEverywhere(host)
	switch {
	case IsLoopback(bare), everywhere && isContainer(env):
		return nil
	case everywhere:
		return &cli.UsageError{
			Text:  fmt.Sprintf("callback host %q is not loopback, and this is no container", host),
			Hints: []string{"use 127.0.0.1, [::1] or localhost; for a browser on another machine see --callback-via and sallyport callback"},
		}
	}
	return &cli.UsageError{
		Text: fmt.Sprintf("callback host %q is not loopback", host),
		Hints: []string{
			"use 127.0.0.1, [::1] or localhost; for a browser on another machine see --callback-via and sallyport callback",
			"in a container whose port is published on 127.0.0.1 of its host: --callback-host 0.0.0.0",
		},
	}
}

// containerFiles are there in containers of Docker and of Podman.
var containerFiles = []string{"/.dockerenv", "/run/.containerenv"}

// isContainer reports whether this process runs in a container, as far as that can be told: Docker
// and Podman leave a file, systemd and Podman set a variable, and Kubernetes sets another one.
func isContainer(env environment.Environment) bool {
	for _, file := range containerFiles {
		if _, err := os.Stat(file); err == nil {
			return true
		}
	}
	return env.Getenv("container") != "" || env.Getenv("KUBERNETES_SERVICE_HOST") != ""
}
