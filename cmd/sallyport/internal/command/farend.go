package command

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
)

// farEnd is the end of a way between two sallyports that one of them has started on the other's
// machine, over a session channel of SSH. Its stdin and stdout lead to the one that started it.
func farEnd(ctx context.Context, a *app, c *cli.FarEndCommand) error {
	end := helper.FarEnd{
		Dirs: helper.Dirs(a.controlDirs(c.Store), a.env.UsualStateDir()), Version: a.env.Version, Program: a.env.Executable,
		In: a.std.In, Out: a.toHost,
	}
	switch {
	case c.Dial != 0:
		return end.DialHere(ctx, c.Dial)
	case !c.Join:
		return end.Run(ctx)
	}
	from := comesFrom(ctx, a)
	err := end.Join(ctx, from)
	if !errors.Is(err, helper.ErrNoHelper) {
		return err
	}
	// Nobody lends the browser of this machine yet, so this process does, for the one login.
	// The session of SSH that it runs in has no display, so it looks for the person's desktop. The
	// login environment may name a browser.
	person.JoinDesktop(ctx, a.env)
	settings := &cli.CallbackCommand{Store: c.Store}
	settings.Browser.Browser = a.env.Getenv("BROWSER")
	desk, err := callback.New(deskConfig(a, settings))
	if err != nil {
		return err
	}
	defer desk.Close()
	conn, err := end.Greet()
	if err != nil {
		return err
	}
	return desk.Serve(ctx, conn, callback.Origin{Host: from})
}

// nameTimeout bounds the search for a name.
const nameTimeout = time.Second

// comesFrom returns how the machine that has connected to this one by SSH is called here. SSH tells
// its address only. If that is the address of an alias in ssh_config, the person knows it by the
// alias. What the other machine calls itself is not asked: it could say the name of another.
func comesFrom(ctx context.Context, a *app) string {
	address, _, _ := strings.Cut(a.env.Getenv("SSH_CONNECTION"), " ")
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	resolver := session.SSH{Env: a.env, Log: a.log}.Resolver()
	name, port := "", 0
	for _, alias := range resolver.Aliases(ctx) {
		host, err := resolver.Resolve(ctx, alias)
		switch {
		case err != nil || !isAt(ctx, host.HostName, ip):
		case name == "":
			name, port = alias, host.Port
		case port != host.Port: // several machines share the address, as behind a router
			return address
		}
	}
	return cmp.Or(name, address)
}

// isAt reports whether a host has an address.
func isAt(ctx context.Context, host string, ip netip.Addr) bool {
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host) // an address stands for itself
	return err == nil && slices.ContainsFunc(addresses, func(one netip.Addr) bool { return one.Unmap() == ip.Unmap() })
}
