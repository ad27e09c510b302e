package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/oauth"
)

// callbackRows makes the rows of what a login needs on this machine.
type callbackRows struct{ *walk }

// tell looks at what a login needs on this machine.
func (w callbackRows) tell(ctx context.Context) {
	if because := w.needlessCallback(); because != "" {
		w.skipAll(because, idHelper, idPort, idTrip, idBrowser)
		return
	}
	w.begin(idHelper)
	asked, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	helpers := len(helper.Answering(asked, helper.Dirs(w.SocketDirs, w.Env.UsualStateDir())))
	if helpers > 0 {
		w.ok(idHelper, count(helpers, "helper")+" of another machine, or of this one, takes logins")
		w.skipAll("the callback comes by the helper", idPort, idTrip, idBrowser)
		return
	}
	w.skip(idHelper, "no other machine lends its browser to this one")
	w.begin(idPort)
	if w.s.CallbackTunnel != nil {
		w.tellRemotePort(ctx)
	} else {
		w.tellPort(ctx)
	}
	w.begin(idBrowser)
	w.tellBrowser()
}

// needlessCallback says why no login comes back to this machine, or "".
func (w callbackRows) needlessCallback() string {
	switch {
	case w.s == nil:
		return w.why
	case w.found.open:
		return "no sign-in is needed"
	case !w.attended():
		return "nobody has to sign in with this grant"
	case w.s.Parts.Grant() == oauth.GrantDeviceCode:
		return "a login by a device code comes back to no port"
	}
	return ""
}

// tellPort binds the callback's port as a login would, and sends a request to it.
func (w callbackRows) tellPort(ctx context.Context) {
	ln, addr, err := w.s.Parts.ListenForCallback(ctx)
	if err == nil {
		w.ok(idPort, ln.Addr().String()+" is free", "configured as "+addr)
		w.begin(idTrip)
		w.tellTrip(ctx, ln)
		return
	}
	held, _ := errors.AsType[*oauth.PortBusyError](err)
	switch e := w.Words.Error(err); {
	case held != nil && strings.HasPrefix(held.Command, "sallyport"):
		w.ok(idPort, fmt.Sprintf("process %d of sallyport holds the port: a sign-in waits there, or sallyport callback lends it", held.PID))
	case w.signedIn:
		w.add(Check{ID: idPort, Result: Warn, Summary: e.Text + " (the stored sign-in needs no port until it ends)", Next: e.Hints})
	default:
		w.failWith(idPort, e)
	}
	w.skip(idTrip, "no port could be bound")
}

// tellTrip sends a request through a listener, as a browser of this machine would, and closes it.
func (w callbackRows) tellTrip(ctx context.Context, ln net.Listener) {
	const word = "sallyport doctor was here"
	server := &http.Server{ReadHeaderTimeout: askLimit, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		io.WriteString(rw, word)
	})}
	served := make(chan struct{})
	go func() { // ends with Close
		defer close(served)
		server.Serve(ln)
	}()
	defer func() { server.Close(); <-served }()
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	began := time.Now()
	got, err := fetch(ctx, "http://"+ln.Addr().String()+"/doctor")
	if err == nil && got != word {
		err = fmt.Errorf("%s: another program answers in our place", ln.Addr())
	}
	if err != nil {
		e := w.Words.Error(err)
		e.Status, e.Kind = explain.StatusFailed, explain.KindPort
		e.Hints = []string{"a firewall or security program of this machine keeps connections from 127.0.0.1: permit them for sallyport, or use sallyport callback on another machine"}
		w.failWith(idTrip, e)
		return
	}
	w.ok(idTrip, fmt.Sprintf("a request to %s arrives, in %v", ln.Addr(), time.Since(began).Round(100*time.Microsecond)))
}

// fetch returns the beginning of a page of this machine, without an HTTP proxy.
func fetch(ctx context.Context, link string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return string(text), err
}

// tellRemotePort asks the workstation of --callback-via for the forward of the callback.
func (w callbackRows) tellRemotePort(ctx context.Context) {
	host := w.Command.CallbackVia
	c := w.chains[len(w.chains)-1]
	if !c.up {
		w.skipAll(host+" is not reached", idPort, idTrip)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	ln, addr, err := w.s.Parts.ListenForCallback(ctx)
	if err != nil {
		w.fail(idPort, err)
		w.skip(idTrip, "no port could be bound")
		return
	}
	ln.Close()
	w.ok(idPort, fmt.Sprintf("%s on %s can be had", addr, host))
	w.skip(idTrip, "the browser is on "+host)
}

// tellBrowser says which program would open the login page.
func (w callbackRows) tellBrowser() {
	if w.Command.NoBrowser {
		w.skip(idBrowser, "--no-browser: the link is printed")
		return
	}
	if w.s.CallbackTunnel != nil {
		w.skip(idBrowser, "the link is opened on "+w.Command.CallbackVia)
		return
	}
	program, err := person.FindBrowser(w.Env, w.Command.Browser.Browser)
	switch {
	case err == nil:
		w.ok(idBrowser, program)
	case w.Command.Browser.Browser == "":
		w.skip(idBrowser, "no window can appear here ("+err.Error()+"): the link is printed",
			"if your browser is on another machine: sallyport callback HOST there, or --callback-via from here")
	default:
		w.add(Check{ID: idBrowser, Result: Warn, Summary: err.Error() + ": the link is printed only", Next: []string{"correct --browser (BROWSER), or leave it out"}})
	}
}
