package doctor

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/oauth"
	"sallyport/oauth/procnet"
)

// callbackRows makes the rows of what a login needs on this machine.
type callbackRows struct{ *walk }

// tell looks at what a login needs on this machine.
func (w callbackRows) tell(ctx context.Context) {
	if because := w.needlessCallback(); because != "" {
		w.skipAll(because, idPort, idTrip, idBrowser)
		return
	}
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
	case w.s.Grant() == oauth.GrantDeviceCode:
		return "a login by a device code comes back to no port"
	}
	return ""
}

// tellPort binds the first callback port that is free, and sends a request to it.
func (w callbackRows) tellPort(ctx context.Context) {
	var busy []string
	var first error
	for _, addr := range w.s.CallbackAddrs() {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err == nil {
			w.ok(idPort, ln.Addr().String()+" is free", busy...)
			w.begin(idTrip)
			w.tellTrip(ctx, ln)
			return
		}
		busy = append(busy, err.Error())
		first = cmp.Or(first, portError(addr, err))
	}
	w.skipLater(idTrip, "no port could be bound")
	if held, ok := first.(*oauth.PortBusyError); ok && strings.HasPrefix(held.Command, "sallyport") {
		w.ok(idPort, fmt.Sprintf("process %d of sallyport holds the port: a sign-in waits there, or sallyport callback lends it", held.PID), busy...)
	} else if w.signedIn {
		e := w.Words.Error(first)
		w.add(Check{ID: idPort, Result: Warn, Summary: e.Text + " (the stored sign-in needs no port until it ends)", Evidence: busy, Next: e.Hints})
	} else {
		w.fail(idPort, first, busy...)
	}
	w.flushLater()
}

// skipLater notes a row that is skipped after the next one.
func (w callbackRows) skipLater(id, because string) {
	w.later = append(w.later, Check{ID: id, Result: Skipped, Summary: because})
}

// flushLater adds the rows of skipLater.
func (w callbackRows) flushLater() {
	for _, c := range w.later {
		w.add(c)
	}
	w.later = nil
}

// portError returns why a callback address could not be bound, as a login would tell it.
func portError(addr string, err error) error {
	if !isInUse(err) {
		return fmt.Errorf("listen for the callback on %s: %w", addr, err)
	}
	_, port, _ := net.SplitHostPort(addr)
	e := &oauth.PortBusyError{Addr: addr, Err: err}
	e.PID, e.Command = procnet.Holder(port)
	return e
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
	var first error
	for _, addr := range w.s.CallbackAddrs() {
		ln, err := listenThere(ctx, c, addr)
		if err == nil {
			ln.Close()
			w.ok(idPort, fmt.Sprintf("%s on %s can be had", addr, host))
			w.skip(idTrip, "the browser is on "+host)
			return
		}
		first = cmp.Or(first, err)
	}
	w.fail(idPort, first)
	w.skip(idTrip, "no port could be bound")
}

func listenThere(ctx context.Context, c *chain, addr string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return c.tunnel.Listen(ctx, "tcp", addr)
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
