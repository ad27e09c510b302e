package command

import (
	"context"
	"slices"
	"strings"
	"sync"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/sshtunnel"
)

// callback lends this machine's loopback ports to the proxies on the hosts. It binds the ports,
// connects to each host, and then serves until ctx ends. The error is the cause of that end, or
// what prevented the start.
func (a *app) callback(ctx context.Context, c *cli.CallbackCommand) error {
	if slices.Contains(c.Port, 0) {
		return &cli.UsageError{
			Text:  "port 0: the proxy on HOST would not know which port this is",
			Hints: []string{"name the port of its redirect URI, as --port 53682"},
		}
	}
	ssh := session.SSH{
		Settings: c.SSH, Env: a.env, Ask: person.NewAsker(a.env, true).Ask, Notice: a.noticeOf(true),
		StateDir: a.env.StateDir(), AtTerminal: true, Log: a.log,
		Purpose: "sallyport callback", SocketDirs: a.controlDirs(cli.Store{}), LogFile: a.logSettings.LogFile, LogLevel: a.logSettings.LogLevel,
	}
	carrier := &callback.Carrier{Explain: a.explain, Log: a.log}
	defer carrier.Close()
	for _, name := range c.Host {
		tunnel, _, err := ssh.Tunnel(ctx, name)
		if err != nil {
			return err
		}
		defer tunnel.Close() // at the end of the command: the tunnels serve until then
		carrier.Hosts = append(carrier.Hosts, callback.NewHost(name, tunnel))
	}
	// The ports are bound before the person is asked for anything.
	if err := carrier.Listen(ctx, c.Port); err != nil {
		return err
	}
	for _, host := range carrier.Hosts {
		// A host that cannot be reached at the start ends the command, because its name is probably
		// wrong. A tunnel that breaks later is dialed again.
		if err := host.Connect(ctx); err != nil {
			return err
		}
	}
	var following sync.WaitGroup
	defer following.Wait()
	for _, host := range carrier.Hosts {
		following.Go(func() { a.followTunnel(ctx, host) }) // ends with ctx
	}
	carrier.Serve(ctx, func(port int) {
		a.messages.Say("http://127.0.0.1:%d here now answers for %s; Ctrl-C ends it", port, strings.Join(c.Host, ", "))
	})
	return context.Cause(ctx)
}

// explain words an error, and reports it to the person. The words are returned as well, because the
// browser's page shows them.
func (a *app) explain(err error) (text string, hints []string) {
	e := a.words.Error(err)
	a.messages.Report(e.Text, e.Hints)
	return e.Text, e.Hints
}

// followTunnel tells the person when the tunnel to host breaks and when it is up again. It ends
// with ctx.
func (a *app) followTunnel(ctx context.Context, host *callback.Host) {
	// reported is the text of the error that the person knows already. A tunnel tries again and
	// again, and the same error must not fill the terminal.
	reported := ""
	for {
		state, changed := host.Tunnel.State()
		switch {
		case state.Err != nil && state.Err.Error() != reported:
			reported = state.Err.Error()
			a.explain(state.Err)
		case state.Phase == sshtunnel.Up && reported != "":
			reported = ""
			a.messages.Say("%s is reachable again", host.Name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
