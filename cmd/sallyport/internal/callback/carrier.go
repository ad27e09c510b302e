package callback

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// callbackTimeout bounds one carried callback. Its answer may take as long as a token exchange
	// on HOST.
	callbackTimeout = 2 * time.Minute
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
func (c *Carrier) proxy(host *Host, port int) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: &http.Transport{
			// Each request gets a connection of its own, and so a check of its own.
			DisableKeepAlives:      true,
			DisableCompression:     true,
			ResponseHeaderTimeout:  callbackTimeout,
			MaxResponseHeaderBytes: maxHeaderBytes,
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, host, port) },
		},
		FlushInterval:  -1, // the page of a login grows while the token is fetched
		ErrorLog:       log.New(io.Discard, "", 0),
		Rewrite:        rewrite,
		ModifyResponse: sandbox,
		ErrorHandler:   c.refuse,
	}
}

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
func sandbox(r *http.Response) error {
	if r.StatusCode < 200 || r.StatusCode > 599 {
		return errors.New("the tool on the host gave no answer of HTTP")
	}
	h := pick(r.Header, []string{"Content-Type", "Content-Language"})
	if kind, _, _ := strings.Cut(h.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "text/html") {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	if to := r.Header.Get("Location"); to != "" {
		u, err := carriedTarget(r.Request.URL, to)
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

// carriedTarget returns where a redirect of HOST leads, if a browser may be led there.
func carriedTarget(from *url.URL, to string) (*url.URL, error) {
	u, err := from.Parse(to)
	if err == nil {
		u, err = checkLink(u.String())
	}
	if err != nil {
		return nil, errors.New("the tool on the host redirects the browser to a place that it is not led to: " + err.Error())
	}
	return u, nil
}

// bounded is the body of an answer, cut to a limit.
type bounded struct {
	io.Reader
	io.Closer
}

func (c *Carrier) refuse(w http.ResponseWriter, _ *http.Request, err error) {
	text, hints := c.Explain(err)
	page{Title: "Not carried", Text: "The sign-in of a tool on another machine could not be finished.",
		Detail: strings.Join(append([]string{text}, hints...), "\n")}.send(w, http.StatusBadGateway)
}
