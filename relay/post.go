package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxRedirects = 5        // redirects that are followed for one request
	maxErrorBody = 64 << 10 // bytes of a refusal's body that are read
	maxShown     = 4 << 10  // bytes of a body that are kept for the excerpt in an error
	maxInterim   = 100      // interim responses (1xx) to one request
)

// phase is how far a call has come upstream. The zero value is unsent.
type phase struct {
	atomic.Int32
	// unheard says that the host hears nothing while the call waits, because it gave no progress
	// token. It is set before the call is sent.
	unheard bool
	// ends is when the call has to be answered, in nanoseconds since 1970. 0 means that this was
	// not set.
	ends atomic.Int64
}

// setEnd notes when the call has to be answered.
func (p *phase) setEnd(t time.Time) { p.ends.Store(t.UnixNano()) }

// end returns when the call has to be answered. It is zero if that was not set.
func (p *phase) end() time.Time {
	if n := p.ends.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

const (
	// unsent means that nothing of the call was written, or that the server has refused what was
	// written. It has not run.
	unsent = iota
	// written means that the call may have run.
	written
	// replied means that the server has begun to answer and that the RoundTripper still has not
	// returned. We take it that the RoundTripper is dealing with a refusal, so nothing is running.
	// If the RoundTripper returns an error from here, the call may have run.
	replied
	// held means that the call has not run, and waits because the server has asked us to wait.
	held
	// asking means that nothing of the call runs, and that it waits for the host.
	asking
)

// trackedBody is a request's body that moves the phase when it is read: whoever has read a byte of
// it may have sent it.
type trackedBody struct {
	*bytes.Reader
	phase *phase
}

func (b trackedBody) Read(p []byte) (int, error) {
	b.phase.CompareAndSwap(unsent, written)
	return b.Reader.Read(p)
}

func (b trackedBody) WriteTo(w io.Writer) (int64, error) {
	b.phase.CompareAndSwap(unsent, written)
	return b.Reader.WriteTo(w)
}

func (trackedBody) Close() error { return nil }

// errInterim ends a request that gets one interim response after the other.
var errInterim = fmt.Errorf("more than %d interim responses", maxInterim)

// client makes the HTTP requests of all wires.
type client struct {
	*run
	host      hostSide
	obstacles *obstacles
	// moved is where a permanent redirect has led to. It is nil before one did.
	moved atomic.Pointer[url.URL]
	// onRequest is called after each HTTP request. It is nil except in a Probe.
	onRequest func(r httpRequest, target *url.URL, resp *http.Response, err error)
	// batches says that the session is of a revision that has batches.
	batches atomic.Bool
	// drops counts the messages of the server that were dropped.
	drops drops
	// hooked says that the RoundTripper has called one of our hooks, so that it can be trusted to
	// call them.
	hooked atomic.Bool
}

// trace returns ctx with the hooks by which a RoundTripper moves p (Config.Send). A RoundTripper
// that answers a refusal by itself, as it signs in and sends the request anew, takes a connection
// for that anew; what was refused has not run.
//
// An http.Transport takes a connection anew by itself, too, after the headers were written. It does
// so for a POST if nothing has left, if the server says in HTTP/2 that it has not processed the
// request, or if Config.Header declares by an Idempotency-Key that repeating does no harm.
func (cl *client) trace(ctx context.Context, p *phase) context.Context {
	var interim atomic.Int32
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) {
			cl.hooked.Store(true)
			interim.Store(0)
			p.Store(unsent)
		},
		WroteHeaders:         func() { p.Store(written) },
		GotFirstResponseByte: func() { p.Store(replied) },
		// An interim response (RFC 9110, section 15.2) refuses nothing.
		Got1xxResponse: func(int, textproto.MIMEHeader) error {
			p.Store(written)
			if interim.Add(1) > maxInterim {
				return errInterim
			}
			return nil
		},
	})
}

// httpRequest is one HTTP request to the upstream.
type httpRequest struct {
	// send carries the request.
	send   http.RoundTripper
	method string
	// url is where the request goes. Nil means to the configured URL, or to where a permanent
	// redirect has led.
	url    *url.URL
	header http.Header
	// body is nil if the request has none.
	body []byte
	// phase follows the request. It is nil if nobody asks, as for a request that can be repeated.
	phase *phase
}

// newRequest makes the request to target for net/http.
func (cl *client) newRequest(ctx context.Context, r httpRequest, target *url.URL) *http.Request {
	req := (&http.Request{Method: r.method, URL: target, Header: r.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	if r.body == nil {
		return req
	}
	req.ContentLength = int64(len(r.body))
	req.GetBody = func() (io.ReadCloser, error) {
		if r.phase == nil || cl.hooked.Load() {
			// An http.Transport writes a body of this type together with the header.
			return io.NopCloser(bytes.NewReader(r.body)), nil
		}
		return trackedBody{bytes.NewReader(r.body), r.phase}, nil
	}
	req.Body, _ = req.GetBody()
	return req
}

// do makes one HTTP request. It follows the redirects that keep method, body and origin (RFC 9110,
// sections 15.4.8 and 15.4.9), and remembers where the permanent ones lead a POST. Any other
// redirect is a *fault; other errors are those of the RoundTripper, or the cause of ctx. The caller
// closes the response's body.
func (cl *client) do(ctx context.Context, r httpRequest) (*http.Response, error) {
	// A server may send a GET, and that alone, to its web page.
	target, permanent := cl.cfg.URL, r.method == http.MethodPost
	if r.url != nil {
		target, permanent = r.url, false
	} else if moved := cl.moved.Load(); moved != nil {
		target = moved
	}
	for range maxRedirects + 1 {
		resp, err := r.send.RoundTrip(cl.newRequest(ctx, r, target))
		if cl.onRequest != nil {
			cl.onRequest(r, target, resp, err)
		}
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
		if resp.StatusCode/100 != 3 || resp.Header.Get("Location") == "" {
			return resp, nil
		}
		discard(resp)
		next, err := redirect(target, resp)
		if err != nil {
			return nil, err
		}
		target = next
		if permanent = permanent && resp.StatusCode == http.StatusPermanentRedirect; permanent {
			cl.moved.Store(next)
		}
	}
	return nil, newFault(codeStatus, "redirect", fmt.Sprintf("%s: more than %d redirects", where(cl.cfg.URL), maxRedirects))
}

// redirect returns where resp sends a request to target. The error is a *fault that says why it is
// not followed.
func redirect(target *url.URL, resp *http.Response) (*url.URL, error) {
	location := resp.Header.Get("Location")
	next, err := target.Parse(location)
	path, _, _ := strings.Cut(location, "?") // the query may be secret
	refusal := newFault(codeStatus, "redirect",
		fmt.Sprintf("%s: status %d sends the request to %q", where(target), resp.StatusCode, excerpt(path, 200)))
	refusal.status = resp.StatusCode
	switch {
	case err != nil:
		return nil, refusal
	case !sameOrigin(next, target):
		refusal.hints = []string{"a redirect to another origin is never followed, because that origin would get the token; " +
			"if it is the right one, configure its URL"}
		return nil, refusal
	case resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect:
		refusal.hints = []string{"this status would turn the request into another one; " +
			"configure the URL that it leads to"}
		return nil, refusal
	}
	return next, nil
}

// deliver carries r upstream. As long as an obstacle keeps it from being written, or the upstream
// refuses it for now, it tries again. The error is the cause of ctx or a *fault.
func (cl *client) deliver(ctx context.Context, r httpRequest) (*http.Response, error) {
	return cl.sendPatiently(ctx, r, func() (*http.Response, error) { return cl.deliverOnce(ctx, r) })
}

// deliverOnce carries r upstream. As long as an obstacle keeps it from being written, it tries
// again when that changes. The error is the cause of ctx or a *fault.
func (cl *client) deliverOnce(ctx context.Context, r httpRequest) (resp *http.Response, err error) {
	traced := cl.trace(ctx, r.phase)
	try := retry{obstacles: cl.obstacles}
	ended := try.run(ctx, func(bool) verdict {
		r.phase.Store(unsent)
		switch resp, err = cl.do(traced, r); {
		case err == nil:
			r.phase.Store(written)
			return stop
		case ctx.Err() != nil || r.phase.Load() != unsent:
			return stop
		case aboutSignIn(cl.cfg.Explain(err).Kind):
			// The request was waiting for a sign-in, and this is what came of it. The obstacle of
			// that sign-in may stand for another moment. To send the request again would begin
			// another one.
			return stop
		}
		return obstructed
	})
	switch {
	case ended != nil:
		return nil, ended
	case err == nil:
		return resp, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case r.phase.Load() != unsent:
		return nil, cl.obstacles.explain(err).mayHaveRun()
	}
	return nil, cl.obstacles.explain(err)
}

// discard closes a response that nobody looks at. A short body is read first, so that the
// connection can be used again.
func discard(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= maxErrorBody {
		io.CopyN(io.Discard, resp.Body, maxErrorBody)
	}
	resp.Body.Close()
}

// userHeader returns a copy of the header that the user wants in every request, with room for the
// protocol's own. These are set after it, so that the user's cannot break the protocol.
func (r *run) userHeader() http.Header {
	h := make(http.Header, len(r.cfg.Header)+8)
	for k, v := range r.cfg.Header {
		h[k] = v
	}
	return h
}

// mediaType returns the type of a body without its parameters, in lower case.
func mediaType(h http.Header) string {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// sameOrigin compares scheme, host and port (RFC 6454, section 4).
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// port returns the port of u, also if that does not name it.
func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if strings.EqualFold(u.Scheme, "https") {
		return "443"
	}
	return "80"
}

// where is u for people. User, query and fragment may be secret, and are left out.
func where(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
