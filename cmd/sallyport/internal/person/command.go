package person

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
)

// lookupTimeout bounds the lookup of this machine's own name, which is on the way to a hint.
const lookupTimeout = 300 * time.Millisecond

// CallbackCommand returns what the person types on the machine of the browser, so that logins here
// open there. This machine cannot know what that machine calls it, so the words say what to put in.
func CallbackCommand(env environment.Environment) string {
	command, _ := callbackCommand(env, net.DefaultResolver.LookupHost)
	return command
}

// CallbackHint says what to do if the browser is on another machine, and what is assumed. It begins
// with the reason if the sockets of a lent browser are here and not used.
func CallbackHint(env environment.Environment) string {
	command, assumed := callbackCommand(env, net.DefaultResolver.LookupHost)
	hint := fmt.Sprintf("is your browser on another machine? there, run: %s (%s)", command, assumed)
	if foreign := helper.Foreign(helper.Dirs(nil, env.UsualStateDir())); foreign != "" {
		hint = foreign + "; " + hint
	}
	return hint
}

// callbackCommand returns the command and what it assumes. In an SSH session (SSH_CONNECTION) that
// is the address and the port at which the session came in. The address gives way to the name of
// this machine if that leads to it, or if it says nothing to others.
func callbackCommand(env environment.Environment, lookup func(context.Context, string) ([]string, error)) (command, assumed string) {
	host, whence := env.Hostname, ""
	addr, port := cameIn(env.Getenv("SSH_CONNECTION"))
	isNamed := !addr.IsValid() || leadsTo(env.Hostname, addr, lookup)
	if !isNamed {
		host = addr.String()
		whence = "your SSH session came in at " + net.JoinHostPort(host, port) + "; "
	}
	if addr.IsValid() && (port != "22" || !isNamed && addr.Is6()) {
		host = net.JoinHostPort(host, port)
	}
	target := host
	if env.User != "" { // a container may have no name for its user
		target = env.User + "@" + host
	}
	return "sallyport callback " + target, fmt.Sprintf("%s%s stands for what you type after ssh to come here", whence, target)
}

// cameIn returns the address and the port of this machine in SSH_CONNECTION. The address is not
// valid if it is missing, or leads from no other machine here.
func cameIn(connection string) (addr netip.Addr, port string) {
	const serverAddress, serverPort, fields = 2, 3, 4 // ssh(1), ENVIRONMENT
	f := strings.Fields(connection)
	if len(f) != fields {
		return netip.Addr{}, ""
	}
	addr, err := netip.ParseAddr(f[serverAddress])
	if err != nil || addr.Unmap().IsLoopback() || addr.Zone() != "" || addr.IsUnspecified() {
		return netip.Addr{}, ""
	}
	if _, err := netip.ParseAddrPort(net.JoinHostPort("::1", f[serverPort])); err != nil {
		return netip.Addr{}, ""
	}
	return addr.Unmap(), f[serverPort]
}

// leadsTo reports whether a name resolves to an address.
func leadsTo(name string, addr netip.Addr, lookup func(context.Context, string) ([]string, error)) bool {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	found, err := lookup(ctx, name)
	return err == nil && slices.ContainsFunc(found, func(text string) bool {
		one, err := netip.ParseAddr(text)
		return err == nil && one.Unmap() == addr
	})
}

// publishHint says what brings the browser beside a container to its callback.
func publishHint(redirectURI string) string {
	port := "53682"
	if u, err := url.Parse(redirectURI); err == nil && u.Port() != "" {
		port = u.Port()
	}
	return fmt.Sprintf("the callback comes to this container if its port is published on the loopback of the machine with the browser: "+
		"docker run -p 127.0.0.1:%s:%s", port, port)
}
