package callback

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// callbackTimeout bounds one carried callback, and beginTimeout how long its answer may take to
	// begin: as long as a token exchange on HOST. headersTimeout is how long the header of the
	// answer may take from then on.
	callbackTimeout, beginTimeout, headersTimeout = 2 * time.Minute, time.Minute, 10 * time.Second
	// maxCarriedPage is the most bytes of an answer that are carried.
	maxCarriedPage = 1 << 20
)

// Carrier carries the callbacks of tools that know nothing of helpers to their hosts.
type Carrier struct {
	// Explain words an error for people, and reports it to the person.
	Explain func(error) (text string, hints []string)
	// Log must not be nil.
	Log *slog.Logger

	// dialHost replaces the dialing of hosts in tests.
	dialHost func(ctx context.Context, host *Host, port int) (net.Conn, error)
	// ownedHost replaces the question whether this user listens on a port of a host, in tests.
	ownedHost func(h *Host, port int) error

	mu sync.Mutex
	// hosts are those where a tool may wait. The one on which this user listens gets the callback.
	// If there may be more than one, the person chooses.
	hosts []*Host
	// ports are those that are carried.
	ports []int
	// choices are those that are open, by their path.
	choices map[string]choice
}

// NewCarrier returns a carrier without hosts. See the fields.
func NewCarrier(explain func(error) (text string, hints []string), log *slog.Logger) *Carrier {
	return &Carrier{Explain: explain, Log: log, choices: map[string]choice{}}
}

// Add adds a host.
func (c *Carrier) Add(h *Host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = append(c.hosts, h)
}

// Carry holds ports for the callbacks of other tools, from now until the desk is closed. Logins of
// our own share the ports. It must be called before Close. The error is a *PortError.
func (d *Desk) Carry(ctx context.Context, c *Carrier, ports []int) error {
	for _, number := range ports {
		d.mu.Lock()
		d.carried[number] = c.handler(number)
		d.mu.Unlock()
		p, err := d.ports.hold(ctx, wanted{number: number, host: "localhost", fixed: true})
		if err != nil {
			return err
		}
		d.mu.Lock()
		d.carrying = append(d.carrying, p)
		d.mu.Unlock()
		c.mu.Lock()
		c.ports = append(c.ports, number)
		c.mu.Unlock()
	}
	return nil
}

// handler carries requests to the same port of the host on which this user listens. The desk's own
// handler has checked that the request is a GET for a page.
func (c *Carrier) handler(port int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callbackTimeout)
		defer cancel()
		r, host, ok := c.chosen(r)
		if !ok {
			hosts, err := c.candidates(ctx, port)
			switch {
			case err != nil:
				c.refuse(w, r, err)
				return
			case len(hosts) > 1:
				c.choose(w, r, hosts)
				return
			}
			host = hosts[0]
		}
		c.proxy(host, port).ServeHTTP(w, r.WithContext(ctx))
	})
}

// proxy carries one request to a port of a host.
func (c *Carrier) proxy(host *Host, port int) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: &http.Transport{
			// Each request gets a connection of its own, and so a check of its own.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, host, port) },
		},
		FlushInterval: -1, // the page of a login grows while the token is fetched
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite:       rewrite,
		ErrorHandler:  c.refuse,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, giveUp := context.WithCancelCause(r.Context())
		defer giveUp(nil)
		slow := time.AfterFunc(beginTimeout, func() { giveUp(errSlow) })
		defer slow.Stop()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { slow.Reset(headersTimeout) }})
		one := *proxy
		one.ModifyResponse = func(resp *http.Response) error {
			slow.Stop()
			return c.sandbox(resp)
		}
		one.ServeHTTP(finalAnswer{w}, r.WithContext(ctx))
	})
}

// errSlow says that a tool takes too long for its answer.
var errSlow = errors.New("the tool on the host does not answer in time")

// finalAnswer swallows the interim answers of a tool (RFC 9110 section 15.2). Their headers would
// come to the browser as they are.
type finalAnswer struct{ http.ResponseWriter }

// WriteHeader sends the status of a final answer.
func (w finalAnswer) WriteHeader(status int) {
	if status >= 200 {
		w.ResponseWriter.WriteHeader(status)
	}
}

// Unwrap is for http.ResponseController.
func (w finalAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (c *Carrier) dial(ctx context.Context, host *Host, port int) (net.Conn, error) {
	if c.dialHost != nil {
		return c.dialHost(ctx, host, port)
	}
	conn, err := host.dialOwned(ctx, port)
	if err == nil {
		c.Log.Info("callback carried", "host", host.Name)
	}
	return conn, err
}

// carriedRequestHeaders are the headers of a browser that a tool may want. All others stay here: a
// browser sends what it keeps for 127.0.0.1, such as cookies, to every port of it.
var carriedRequestHeaders = []string{"Accept", "Accept-Language", "User-Agent"}

// rewrite makes the request that HOST gets.
func rewrite(r *httputil.ProxyRequest) {
	r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
	r.Out.Host = r.In.Host // the listener on the host checks it, as the handler here does
	r.Out.Header = pick(r.In.Header, carriedRequestHeaders)
	r.Out.Body, r.Out.ContentLength = http.NoBody, 0
	if _, ok := r.Out.Header["User-Agent"]; !ok {
		r.Out.Header["User-Agent"] = nil // else the transport adds its own
	}
}

// pick returns the headers that have a name of the list.
func pick(from http.Header, names []string) http.Header {
	to := http.Header{}
	for _, name := range names {
		if values, ok := from[name]; ok {
			to[name] = values[:1]
		}
	}
	return to
}

// carriedCSP puts a page of HOST into a sandbox. Its origin is none, so it shares nothing with
// 127.0.0.1 and can leave nothing behind. It runs no script and loads nothing but what is in it.
const carriedCSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// sandbox makes an answer of HOST harmless. Headers are left out that set cookies, ask for a
// password, or make the browser remember something of this address.
func (c *Carrier) sandbox(r *http.Response) error {
	if r.StatusCode < 200 || r.StatusCode > 599 {
		return errors.New("the tool on the host gave no answer of HTTP")
	}
	h := pick(r.Header, []string{"Content-Type", "Content-Language"})
	if kind, _, _ := strings.Cut(h.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "text/html") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if to := r.Header.Get("Location"); to != "" {
		u, err := c.target(r.Request.URL, to)
		if err != nil {
			return err
		}
		h.Set("Location", u.String())
	}
	h.Set("Content-Security-Policy", carriedCSP)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	r.Header, r.Trailer = h, nil
	r.Body = bounded{io.LimitReader(r.Body, maxCarriedPage), r.Body}
	r.ContentLength = -1
	return nil
}

// target returns where a redirect of HOST leads, if a browser may be led there. On this machine,
// that is a port that is carried: the tool means its own ports of HOST. Another port here is that
// of a program which the tool cannot know. The browser would send it what it keeps for this
// machine, for the site of a loopback address is the same with each port.
func (c *Carrier) target(from *url.URL, to string) (*url.URL, error) {
	u, err := from.Parse(to)
	if err == nil {
		u, err = checkLink(u.String())
	}
	if err == nil && isThisMachine(u.Hostname()) {
		port, _ := strconv.Atoi(u.Port())
		c.mu.Lock()
		if !slices.Contains(c.ports, port) {
			err = errors.New("a port of this machine that is not carried (--port)")
		}
		c.mu.Unlock()
	}
	if err != nil {
		return nil, errors.New("the tool on the host redirects the browser to a place that it is not led to: " + err.Error())
	}
	return u, nil
}

// isThisMachine reports whether a browser takes the host of a URL for this machine. It reads more
// than one form of an address, such as 127.1 and 0x7f000001 (URL Standard of WHATWG, section 3.5).
func isThisMachine(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback() || ip.IsUnspecified()
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	_, octal := strconv.ParseUint(last, 10, 64)
	return err == nil || octal == nil
}

// bounded is the body of an answer, cut to a limit.
type bounded struct {
	io.Reader
	io.Closer
}

func (c *Carrier) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(context.Cause(r.Context()), errSlow) {
		err = errSlow
	}
	text, hints := c.Explain(err)
	page{Title: "Not carried", Text: "The sign-in of a tool on another machine could not be finished.",
		Detail: strings.Join(append([]string{text}, hints...), "\n")}.send(w, http.StatusBadGateway)
}
