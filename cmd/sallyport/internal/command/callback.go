package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/farbrowser"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/sshtunnel"
)

// retryHost is how long a HOST that could not be reached is left alone. One that refuses a service
// is left alone for longer: it may count failed logins, and an SSH agent may get its keys later.
const (
	retryHost    = 30 * time.Second
	retryRefused = 5 * time.Minute
)

// lending is the browser of this machine while it is lent.
type lending struct {
	*app
	settings *cli.CallbackCommand
	ssh      session.SSH
	desk     *callback.Desk
	carrier  *callback.Carrier
	// running are the goroutines that serve the hosts. They end with the command's context.
	running sync.WaitGroup
}

// callback lends this machine's browser and loopback ports to logins on the hosts, until ctx ends.
// The error is the cause of that end, or what prevented the start. A host that refuses is told, and
// the others go on.
func (a *app) callback(ctx context.Context, c *cli.CallbackCommand) error {
	if slices.Contains(c.Port, 0) {
		return &cli.UsageError{
			Text:  "port 0: the tool on HOST would not know which port this is",
			Hints: []string{"name the port of its redirect URI, as --port 53682"},
		}
	}
	noteTrust(a, c)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	person.JoinDesktop(ctx, a.env) // a service may have to do so again later
	desk, err := callback.New(deskConfig(a, c))
	if err != nil {
		return err
	}
	defer desk.Close()
	l := &lending{app: a, settings: c, desk: desk, carrier: callback.NewCarrier(a.explain, a.log)}
	l.ssh = callbackSSH(a, c, !c.Unattended)
	defer l.running.Wait()
	defer cancel(nil)
	if len(c.Host) == 0 {
		return l.serveThisMachine(ctx)
	}
	// The ports are bound before the person is asked for anything.
	if err := desk.Carry(ctx, l.carrier, c.Port); err != nil {
		return err
	}
	l.running.Go(func() { // ends with ctx
		if err := desk.ServeLocal(ctx, func() {}); err != nil {
			a.log.Warn("other sallyports of this machine cannot share the ports of this one", "err", err)
		}
	})
	if err := l.start(ctx); err != nil {
		return err
	}
	a.messages.Say("this lasts until Ctrl-C")
	<-ctx.Done()
	return context.Cause(ctx)
}

// serveThisMachine lends the browser to logins that come to this machine by themselves. The error
// is the cause of ctx's end, or says why there is no socket for them.
func (l *lending) serveThisMachine(ctx context.Context) error {
	err := l.desk.ServeLocal(ctx, func() {
		l.messages.Say("ready, logins that come here by --callback-via open your browser; to lend it to logins on a machine that you reach, name that: sallyport callback HOST")
		l.messages.Say("this lasts until Ctrl-C")
	})
	return cmp.Or(err, context.Cause(ctx))
}

// noteTrust tells the person of a name of --trust that is no HOST of the command.
func noteTrust(a *app, c *cli.CallbackCommand) {
	for _, name := range c.Trust {
		if !slices.Contains(c.Host, name) {
			a.messages.Report(fmt.Sprintf("--trust %s names no HOST of this command (%s)", name, strings.Join(c.Host, ", ")),
				[]string{"it counts only for logins of a machine that dials this one by --callback-via, if that is its address"})
		}
	}
}

// deskConfig returns the configuration of the desk.
func deskConfig(a *app, c *cli.CallbackCommand) callback.Config {
	return callback.Config{
		Open: func(ctx context.Context, link string) error {
			if c.NoBrowser {
				return errors.New("--no-browser")
			}
			return openHere(ctx, a, c, link)
		},
		Notify: callback.Notification(a.env, exec.LookPath),
		Say:    a.messages.Say, Log: a.log, TrustHosts: c.Trust,
		Trust:      callback.NewTrust(session.StateDir(c.Store, a.env)),
		Kept:       callback.NewKept(session.StateDir(c.Store, a.env)),
		SocketDirs: helper.Dirs(a.controlDirs(c.Store), a.env.UsualStateDir()),
		Far:        func(ctx context.Context, p callback.FarPage) callback.FarResult { return openFar(ctx, a, c, p) },
	}
}

// openHere starts the person's browser. In a session of SSH, and in a service, it is that of the
// desktop at which the person sits.
func openHere(ctx context.Context, a *app, c *cli.CallbackCommand, link string) error {
	person.JoinDesktop(ctx, a.env)
	return person.OpenBrowser(ctx, a.env, c.Browser.Browser, link)
}

// openFar opens a login page in a window of ours if only HOST reaches it, and says so on our page.
func openFar(ctx context.Context, a *app, c *cli.CallbackCommand, p callback.FarPage) callback.FarResult {
	person.JoinDesktop(ctx, a.env)
	result, err := farbrowser.Open(ctx, farbrowser.Config{
		Link: p.Link, Start: p.Start, Far: p.Dial, Key: "desk " + p.Host, Until: p.Until,
		NoBrowser: c.NoBrowser, Named: person.BrowserPrograms(c.Browser.Browser), NamedOnly: person.IsBrowserChosen(a.env, c.Browser.Browser),
		Env: a.env, StateDir: session.StateDir(c.Store, a.env), Log: a.log,
	})
	switch {
	case err != nil:
		a.log.Debug("the login page is opened as any other", "err", err)
	case result.Way == farbrowser.Nowhere:
		text := fmt.Sprintf("%s is reached neither from this machine nor through %s", result.Host, p.Host)
		a.messages.Say("%s (%v)", text, result.Why)
		return callback.FarResult{Unreached: true, Why: result.Why.Error(),
			Words: text + ". If your browser has a way of its own, as through a proxy, open the page below."}
	case result.Way == farbrowser.Opened:
		return callback.FarResult{Opened: true, Words: fmt.Sprintf(
			"%s is reached only through %s, so its page is open in %s, in a window of sallyport's own that goes there.", result.Host, p.Host, result.Browser)}
	case result.Way == farbrowser.ByPAC:
		return callback.FarResult{Words: fmt.Sprintf(
			"%s is reached only through %s, not from this machine. In a browser here, set the automatic proxy configuration (PAC) to %s until you have signed in, and open the page below.",
			result.Host, p.Host, result.PAC)}
	}
	return callback.FarResult{}
}

// start connects to the hosts one after the other, so that the person answers the questions of SSH
// now, and not when a login comes. The error is that of the first host if no host serves.
func (l *lending) start(ctx context.Context) error {
	var first error
	serving := 0
	for _, name := range l.settings.Host {
		tunnel, hops, err := l.ssh.Tunnel(ctx, name)
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { tunnel.Close() })
		host := callback.NewHost(name, tunnel)
		host.User = hops[len(hops)-1].User
		l.carrier.Add(host)
		err = l.connect(ctx, host)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			serving++
		case len(l.settings.Host) > 1 || l.settings.Unattended:
			l.explain(err)
		}
		first = cmp.Or(first, err)
	}
	if serving == 0 && !l.settings.Unattended {
		return first
	}
	return nil
}

// isTriedAgain reports whether a host is tried again after an error.
func (l *lending) isTriedAgain(err error) bool {
	return isAway(err) && len(l.settings.Host) > 1 || err != nil && l.settings.Unattended
}

// connect brings a host's tunnel up, and serves what HOST lets through. The error says why nothing
// comes from there. If isTriedAgain says so, the host is tried again as long as ctx lasts.
func (l *lending) connect(ctx context.Context, host *callback.Host) error {
	err := host.Tunnel.Connect(ctx)
	if err == nil {
		err = l.serve(ctx, host)
	}
	if l.isTriedAgain(err) {
		l.running.Go(func() { l.keepTrying(ctx, host, err) }) // ends with ctx, or when it serves
	}
	if err == nil {
		l.running.Go(func() { l.followTunnel(ctx, host) }) // ends with ctx
	}
	return err
}

// isAway reports whether an error says that a host could not be reached.
func isAway(err error) bool {
	_, away := errors.AsType[*sshtunnel.HopError](err)
	return away
}

// keepTrying tries a host again and again, until it serves or refuses. The error err is known to
// the person.
func (l *lending) keepTrying(ctx context.Context, host *callback.Host, err error) {
	told := err.Error()
	for {
		pause := retryHost
		if !isAway(err) {
			pause = retryRefused
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		if err = host.Tunnel.Connect(ctx); err == nil {
			err = l.serve(ctx, host)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			l.followTunnel(ctx, host)
			return
		case err.Error() != told:
			told = err.Error()
			l.explain(err)
		}
		if !l.isTriedAgain(err) {
			return
		}
	}
}

// serve lets the logins on a host reach the desk, and says how. With --port it also makes sure that
// the callbacks of other tools can be carried, which takes a shell there. The error says why
// neither works. If one of the two does, the person is told about the other.
func (l *lending) serve(ctx context.Context, host *callback.Host) error {
	carried, err := helper.Carry(ctx, helper.CarryConfig{Host: host.Name, User: host.User, Tunnel: host.Tunnel, Log: l.log})
	if len(l.settings.Port) > 0 && !isAway(err) {
		switch portErr := l.carry(ctx, host, err == nil); {
		case portErr != nil && err != nil:
			return portErr
		case err != nil:
			l.explain(err)
			return nil
		}
	}
	if err != nil {
		return err
	}
	state, _ := carried.State()
	l.messages.Say("%s", readyWords(host.Name, state))
	if state.Missing != nil {
		l.explain(state.Missing)
	}
	from := callback.Origin{Host: host.Name, Dial: host.Tunnel.DialContext, Since: carried.Since}
	l.running.Go(func() { l.desk.ServeAll(ctx, carried, from) }) // ends with ctx
	l.running.Go(func() { l.followCarrier(ctx, host, carried) }) // ends with ctx
	return nil
}

// carry makes sure that the callbacks of other tools can be carried to a host, and says how. The
// error is that of the first port if none can be; it is told if tell says so.
func (l *lending) carry(ctx context.Context, host *callback.Host, tell bool) error {
	var first error
	var forwarded, byProgram, untried cli.Ports
	for _, port := range l.settings.Port {
		way, err := host.Connect(ctx, port)
		switch {
		case err != nil && (tell || first != nil) && ctx.Err() == nil:
			l.explain(err)
		case err == nil && way == helper.ByExec:
			byProgram = append(byProgram, port)
		case err == nil && way == "":
			untried = append(untried, port)
		case err == nil:
			forwarded = append(forwarded, port)
		}
		first = cmp.Or(first, err)
	}
	if len(forwarded) > 0 {
		l.messages.Say("%s: port %s here is carried there", host.Name, joinPorts(forwarded))
	}
	if len(byProgram) > 0 {
		l.messages.Say("%s: port %s here is carried there (by the sallyport there, because its sshd forbids forwarding)", host.Name, joinPorts(byProgram))
	}
	if len(untried) > 0 {
		l.messages.Say("%s: whether port %s here is carried there will show when a browser comes: the sshd there forbids some ports, "+
			"and trying this one would disturb the tool that waits there", host.Name, joinPorts(untried))
	}
	if len(forwarded)+len(byProgram)+len(untried) == 0 {
		return first
	}
	if first != nil && !tell {
		l.explain(first)
	}
	return nil
}

// readyWords says what was found out of the way from HOST.
func readyWords(host string, state helper.CarryState) string {
	switch {
	case state.Way == helper.ByExec:
		return host + ": ready, logins there open your browser here (sallyport " + cmp.Or(state.Version, "of an unknown version") + " there)"
	case state.Missing != nil:
		return host + ": ready, as soon as there is a sallyport (" + string(state.Way) + ")"
	case state.Proven:
		return host + ": ready, logins there open your browser here (" + string(state.Way) + ")"
	}
	return host + ": a socket is forwarded, which could not be tried from here; the first login there will show whether it serves"
}

// followCarrier tells the person when logins do not come from a host any more, although it is
// reached, when they come again, and when they come in another way than the person knows. It ends
// with ctx.
func (l *lending) followCarrier(ctx context.Context, host *callback.Host, carried *helper.Carrier) {
	state, _ := carried.State()
	reported, known := "", readyWords(host.Name, state)
	for {
		state, changed := carried.State()
		tunnel, tunnelChanged := host.Tunnel.State()
		switch {
		case state.Err != nil && tunnel.Phase == sshtunnel.Up && !isAway(state.Err) && state.Err.Error() != reported:
			reported = state.Err.Error()
			l.explain(state.Err)
		case state.Err == nil && (reported != "" || known != readyWords(host.Name, state)):
			reported, known = "", readyWords(host.Name, state)
			l.messages.Say("%s", known)
		}
		select {
		case <-changed:
		case <-tunnelChanged:
		case <-ctx.Done():
			return
		}
	}
}

// joinPorts returns ports for people.
func joinPorts(ports cli.Ports) string {
	words := make([]string, len(ports))
	for i, port := range ports {
		words[i] = strconv.Itoa(port)
	}
	return strings.Join(words, ", ")
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
func (l *lending) followTunnel(ctx context.Context, host *callback.Host) {
	// reported is the text of the error that the person knows already. A tunnel tries again and
	// again, and the same error must not fill the terminal.
	reported := ""
	for {
		state, changed := host.Tunnel.State()
		switch {
		case state.Err != nil && state.Err.Error() != reported:
			reported = state.Err.Error()
			l.explain(state.Err)
		case state.Phase == sshtunnel.Up && reported != "":
			reported = ""
			l.messages.Say("%s is reachable again", host.Name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
