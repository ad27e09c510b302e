package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/oauth/procnet"
	"sallyport/sshtunnel"
)

// Limits of one carried callback. Its answer may take as long as a token exchange on HOST.
const (
	callbackHeaderTimeout = 10 * time.Second
	callbackHeaderBytes   = 64 << 10
	callbackTimeout       = 2 * time.Minute
	ownerTimeout          = 15 * time.Second
)

// Run lends this machine's loopback ports to the proxies on the hosts, until ctx ends.
func (c *callbackCommand) Run(ctx context.Context, a *app) error {
	if slices.Contains(c.Port, 0) {
		return &usageError{text: "port 0: the proxy on HOST would not know which port this is", hints: []string{"name the port of its redirect URI, as --port 53682"}}
	}
	var w way
	defer w.Close()
	hosts := make([]*callbackHost, len(c.Host))
	for i, name := range c.Host {
		hosts[i] = &callbackHost{name: name}
		if _, err := a.openTunnel(ctx, &hosts[i].tunnel, c.sshFlags, name, true, &w); err != nil {
			return err
		}
	}
	// The ports are bound before the person is asked for anything, and before the first failure of a
	// host could end us.
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for _, port := range c.Port {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			return &portError{addr: addr, err: err}
		}
		listeners = append(listeners, l)
	}
	for _, host := range hosts {
		if err := host.tunnel.Connect(ctx); err != nil {
			return err
		}
		if _, err := host.uid(ctx); err != nil {
			return err
		}
	}

	var serving sync.WaitGroup
	defer serving.Wait()
	for _, l := range listeners {
		port := l.Addr().(*net.TCPAddr).Port
		server := &http.Server{
			Handler:           newCallbackHandler(a, hosts, port),
			ReadHeaderTimeout: callbackHeaderTimeout,
			MaxHeaderBytes:    callbackHeaderBytes,
			ErrorLog:          log.New(io.Discard, "", 0),
		}
		serving.Go(func() { server.Serve(l) }) // ends with the listener
		defer server.Close()
		a.print("sallyport: http://127.0.0.1:%d here now answers for %s; Ctrl-C ends it\n", port, strings.Join(c.Host, ", "))
	}
	for _, host := range hosts {
		serving.Go(func() { a.followTunnel(ctx, host) }) // ends with ctx
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// followTunnel tells the person when the way to host breaks and when it is back, and ends with ctx.
func (a *app) followTunnel(ctx context.Context, host *callbackHost) {
	told := ""
	for {
		state, changed := host.tunnel.State()
		switch {
		case state.Err != nil && state.Err.Error() != told:
			told = state.Err.Error()
			e := explain(state.Err)
			a.reportLines(e.text, e.hints)
		case state.Phase == "up" && told != "":
			told = ""
			a.print("sallyport: %s is reachable again\n", host.name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// portError says that a port of this machine could not be bound.
type portError struct {
	addr string
	err  error
}

func (e *portError) Error() string { return fmt.Sprintf("callback port %s: %v", e.addr, e.err) }
func (e *portError) Unwrap() error { return e.err }

// callbackHost is one HOST of the callback command.
type callbackHost struct {
	name   string
	tunnel *sshtunnel.Tunnel

	mu    sync.Mutex
	owner string // our uid there; "" not asked yet
}

// newCallbackHandler carries GET requests with a loopback Host to the same port on the first of the
// hosts where the listening socket is ours. All else is refused here.
func newCallbackHandler(a *app, hosts []*callbackHost, port int) http.Handler {
	through := &http.Transport{
		// Each request gets a connection of its own, and so a check of its own.
		DisableKeepAlives:     true,
		DisableCompression:    true,
		ResponseHeaderTimeout: callbackTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var errs []error
			for _, host := range hosts {
				conn, err := host.dialOwn(ctx, port)
				if err == nil {
					a.log.Info("callback carried", "host", host.name)
					return conn, nil
				}
				errs = append(errs, err)
			}
			return nil, errors.Join(errs...)
		},
	}
	proxy := &httputil.ReverseProxy{
		Transport:     through,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.Out.Host = r.In.Host // the listener there checks it, as we do
			// A browser sends what it keeps for 127.0.0.1 to every port of it.
			r.Out.Header.Del("Cookie")
			r.Out.Header.Del("Authorization")
			r.Out.Header.Del("Upgrade")
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			e := explain(err)
			a.reportLines(e.text, e.hints)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprintf(w, "sallyport callback: %s\n", e.text)
			for _, hint := range e.hints {
				fmt.Fprintf(w, "hint: %s\n", hint)
			}
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodGet:
			w.Header().Set("Allow", http.MethodGet)
			http.Error(w, "only GET is carried", http.StatusMethodNotAllowed)
		case !isCallbackHost(r.Host, port):
			http.Error(w, "the Host header is not this loopback port", http.StatusForbidden)
		default:
			ctx, cancel := context.WithTimeout(r.Context(), callbackTimeout)
			defer cancel()
			proxy.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

// isCallbackHost accepts the Host header of a browser that really meant this port: a name that a
// web site pointed at 127.0.0.1 (DNS rebinding) is not.
func isCallbackHost(hostport string, port int) bool {
	host, p, err := net.SplitHostPort(hostport)
	return err == nil && p == strconv.Itoa(port) && isLoopback(host)
}

// ownerError says that the listening socket on HOST is not ours, or is not there.
type ownerError struct {
	host   string
	port   int
	owners []string // uids; none: nobody listens
	err    error    // the question could not be answered
}

func (e *ownerError) Error() string {
	switch {
	case e.err != nil:
		return fmt.Sprintf("%s: cannot tell who listens on 127.0.0.1:%d there: %v", e.host, e.port, e.err)
	case len(e.owners) == 0:
		return fmt.Sprintf("%s: nobody listens on 127.0.0.1:%d there", e.host, e.port)
	}
	return fmt.Sprintf("%s: 127.0.0.1:%d belongs to another user there (uid %s)", e.host, e.port, strings.Join(e.owners, ", "))
}

func (e *ownerError) Unwrap() error { return e.err }

// dialOwn connects to port on the host, and returns the connection only if the socket that listens
// there is ours both before and after: on a shared host anybody may listen on a port first, and
// would be handed an authorization code.
func (h *callbackHost) dialOwn(ctx context.Context, port int) (net.Conn, error) {
	before, err := h.listening(ctx, port)
	if err != nil {
		return nil, err
	}
	conn, err := h.tunnel.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	after, err := h.listening(ctx, port)
	if err == nil && !slices.Equal(before, after) {
		err = &ownerError{host: h.name, port: port, err: errors.New("the listener changed while it was being dialed")}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// uid is our numeric user id on the host.
func (h *callbackHost) uid(ctx context.Context) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.owner != "" {
		return h.owner, nil
	}
	out, err := h.output(ctx, "id -u")
	if err != nil {
		return "", &ownerError{host: h.name, err: err}
	}
	uid := strings.TrimSpace(out)
	if _, err := strconv.ParseUint(uid, 10, 32); err != nil {
		return "", &ownerError{host: h.name, err: fmt.Errorf("id -u printed %.40q", uid)}
	}
	h.owner = uid
	return uid, nil
}

// ownerScript prints the rows of listening TCP sockets of a Linux host, else what lsof shows of our own.
// It goes through sh, as the login shell may be of another kind.
const ownerScript = `sh -c 'if [ -r /proc/net/tcp ]; then cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; else echo lsof; lsof -a -nP -u "$(id -u)" -iTCP:%d -sTCP:LISTEN -Fn; fi; exit 0'`

// listening returns what identifies the sockets that may accept a connection to 127.0.0.1:port on
// the host. It is an error unless there is one and all of them are ours.
func (h *callbackHost) listening(ctx context.Context, port int) ([]string, error) {
	uid, err := h.uid(ctx)
	if err != nil {
		return nil, err
	}
	out, err := h.output(ctx, fmt.Sprintf(ownerScript, port))
	if err != nil {
		return nil, &ownerError{host: h.name, port: port, err: err}
	}
	if own, ok := strings.CutPrefix(out, "lsof\n"); ok {
		// lsof shows only our own sockets; one on just this address leaves no room for a stranger's.
		if !slices.Contains(strings.Split(own, "\n"), fmt.Sprintf("n127.0.0.1:%d", port)) {
			return nil, &ownerError{host: h.name, port: port}
		}
		return []string{own}, nil
	}
	sockets := procnet.Accepting(out, port)
	var ids, others []string
	for _, s := range sockets {
		ids = append(ids, s.UID+"/"+s.Inode)
		if s.UID != uid {
			others = append(others, s.UID)
		}
	}
	if len(sockets) == 0 || len(others) > 0 {
		return nil, &ownerError{host: h.name, port: port, owners: others}
	}
	return ids, nil
}

const maxOwnerOutput = 16 << 20 // a busy host's table of sockets

// output runs a command on the host and returns what it prints.
func (h *callbackHost) output(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	session, err := h.tunnel.Exec(ctx, command)
	if err != nil {
		return "", err
	}
	defer context.AfterFunc(ctx, func() { session.Close() })()
	text, err := io.ReadAll(io.LimitReader(session, maxOwnerOutput))
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(text), errors.Join(err, session.Close())
}
