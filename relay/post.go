package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/relay/rawjson"
)

const (
	maxRedirects = 5        // followed for one request
	maxErrorBody = 64 << 10 // bytes of a refusal's body that are looked at
	maxShown     = 4 << 10  // bytes of a body that are kept for an error's excerpt
	maxTrusted   = 16 << 20 // bytes that a Content-Length alone makes us allocate
	maxPooled    = 16 << 20 // capacity of a buffer that is kept for the next: new memory of that size takes longer than what it is read from
)

// trace follows one call upstream in phase. A RoundTripper that answers a refusal by itself (it signs in and sends the request
// anew) takes a new connection for that; what was refused did not run.
func trace(ctx context.Context, phase *atomic.Int32) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:              func(string) { phase.Store(unsent) },
		WroteHeaders:         func() { phase.Store(written) },
		GotFirstResponseByte: func() { phase.Store(replied) },
	})
}

// server is the upstream as all wires reach it.
type server struct {
	s     *session
	moved atomic.Pointer[url.URL] // where 308 has led to; nil: Config.URL
}

// do makes one HTTP request, to the URL to or, if that is nil, to the configured one, by way of rt. It follows the redirects that
// keep method, body and origin (RFC 9110, sections 15.4.8 and 15.4.9). Where the permanent ones lead a POST is remembered. Any
// other redirect is a *fault. The caller closes the response's body.
func (srv *server) do(ctx context.Context, rt http.RoundTripper, method string, to *url.URL, h http.Header, body []byte) (*http.Response, error) {
	target, permanent := srv.s.cfg.URL, method == http.MethodPost // a server may send a GET to its web page
	if to != nil {
		target, permanent = to, false
	} else if moved := srv.moved.Load(); moved != nil {
		target = moved
	}
	for range maxRedirects + 1 {
		req := (&http.Request{Method: method, URL: target, Header: h,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
		if body != nil {
			req.ContentLength = int64(len(body))
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
			req.Body, _ = req.GetBody()
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return nil, err
		}
		location := resp.Header.Get("Location")
		if resp.StatusCode/100 != 3 || location == "" {
			return resp, nil
		}
		discard(resp)
		next, err := target.Parse(location)
		refusal := &fault{code: codeStatus, kind: "redirect", status: resp.StatusCode,
			text: fmt.Sprintf("%s: status %d sends the request to %q", where(target), resp.StatusCode, excerpt(strings.SplitN(location, "?", 2)[0], 200))}
		switch {
		case err != nil:
			return nil, refusal
		case !sameOrigin(next, target):
			refusal.hints = []string{"another origin is never followed, for it would be given the token; if it is the right one, configure its URL"}
			return nil, refusal
		case resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect:
			refusal.hints = []string{"this status would turn the request into another one; configure the URL it leads to"}
			return nil, refusal
		}
		target = next
		if permanent = permanent && resp.StatusCode == http.StatusPermanentRedirect; permanent {
			srv.moved.Store(next)
		}
	}
	return nil, &fault{code: codeStatus, kind: "redirect", text: fmt.Sprintf("%s: more than %d redirects", where(srv.s.cfg.URL), maxRedirects)}
}

// discard closes a response that is not looked at, in a way that lets its connection be used again.
func discard(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= maxErrorBody {
		io.CopyN(io.Discard, resp.Body, maxErrorBody)
	}
	resp.Body.Close()
}

// deliver carries body upstream, to the place that do takes, by way of rt, again and again while an obstacle keeps it from being
// written. The error is the cause of ctx or a *fault.
func (srv *server) deliver(ctx context.Context, rt http.RoundTripper, phase *atomic.Int32, to *url.URL, h http.Header, body []byte) (*http.Response, error) {
	traced := trace(ctx, phase)
	for {
		phase.Store(unsent)
		resp, err := srv.do(traced, rt, http.MethodPost, to, h, body)
		switch {
		case err == nil:
			phase.Store(written)
			return resp, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case phase.Load() != unsent:
			return nil, srv.s.explain(err).mayHaveRun()
		}
		changed := srv.s.blocked()
		if changed == nil {
			return nil, srv.s.explain(err)
		}
		if err := wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// sink takes what one request brings: each message in turn. It returns true for the one that answers the request.
type sink func(m rawjson.Message) (answered bool)

// isStream reports whether resp is an event stream.
func isStream(resp *http.Response) bool {
	return resp.StatusCode/100 == 2 && mediaType(resp.Header) == "text/event-stream"
}

// body reads an answer that is no event stream. Of an error status it makes a fault, unless the body is the answer. It closes the
// response's body and returns nil only after the answer has come.
func (srv *server) body(ctx context.Context, resp *http.Response, take sink) error {
	ok := resp.StatusCode/100 == 2
	defer resp.Body.Close()
	limit := maxMessage
	if !ok {
		limit = maxErrorBody
	}
	buf := getBuffer()
	defer putBuffer(buf)
	b := &bodyReader{resp: resp, limit: limit}
	if ok && resp.ContentLength > int64(limit) {
		b.err = errTooLong // nothing of it is worth reading
	}
	m, body, err := rawjson.ParseGrowing(b.room((*buf)[:0]), b.more)
	*buf = body[:0]
	defer srv.s.carried(len(body))
	if b.err != nil && ok {
		return srv.broken(ctx, b.err)
	}
	if err == nil && give(m, take) {
		return nil
	}
	for n := -1; len(body) > n && len(body) < maxShown; { // the scanner may have stopped early
		n = len(body)
		body = b.more(body)
	}
	shown := string(body[:min(len(body), maxShown)])
	if !ok {
		return statusFault(resp, shown)
	}
	f := noAnswer("")
	f.status, f.body = resp.StatusCode, shown
	switch {
	case strings.TrimSpace(shown) == "":
		f.text = fmt.Sprintf("%s: status %d without an answer", where(srv.s.cfg.URL), resp.StatusCode)
	case err != nil:
		f.text = fmt.Sprintf("%s: the answer (%q) is %v", where(srv.s.cfg.URL), excerpt(mediaType(resp.Header), 80), err)
	default:
		f.text = where(srv.s.cfg.URL) + ": the body is no answer to this request"
	}
	return f
}

// buffers keeps memory for messages of the server until the garbage collector wants it.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}

// bodyReader reads the body of resp, of at most limit bytes. A byte is left free for the writer's newline.
type bodyReader struct {
	resp  *http.Response
	limit int
	err   error // why the body ends; nil: as it should
}

// room returns b, which is empty, or what has room for as much as is to come.
func (r *bodyReader) room(b []byte) []byte {
	if want := int(min(r.resp.ContentLength, int64(r.limit), maxTrusted)) + 2; want > cap(b) {
		return make([]byte, 0, want)
	}
	return b
}

// more returns b with what has come after it; nothing: that was all, or there is r.err. As a scanner's, it has one part looked at while the
// next is under way.
func (r *bodyReader) more(b []byte) []byte {
	for r.err == nil {
		if cap(b)-len(b) < 2 {
			b = append(make([]byte, 0, max(4<<10, min(4*cap(b), cap(b)+maxTrusted))), b...)
		}
		n, err := r.resp.Body.Read(b[len(b) : cap(b)-1])
		if len(b)+n > r.limit {
			n, err = r.limit-len(b), errTooLong
		}
		if err != nil && err != io.EOF {
			r.err = err
		}
		if b = b[:len(b)+n]; n > 0 || err != nil {
			return b
		}
	}
	return b
}

// messages gives the message in b, or those of a batch, to take. The error is parse's.
func (srv *server) messages(b []byte, take sink) (answered bool, err error) {
	m, err := rawjson.Parse(b)
	return err == nil && give(m, take), err
}

// give gives m, or those of a batch, to take.
func give(m rawjson.Message, take sink) (answered bool) {
	if m.Kind != rawjson.Batch {
		return take(m)
	}
	for _, e := range m.Elems {
		if m, err := rawjson.Parse(e); err == nil && take(m) {
			answered = true
		}
	}
	return answered
}

// broken is the fault of an answer that ended too early or grew too long.
func (srv *server) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isTooLong(err):
		srv.s.carried(maxMessage)
		f := noAnswer(where(srv.s.cfg.URL) + ": the answer is a " + errTooLong.Error())
		f.kind = "too_large"
		return f
	case errors.Is(err, io.EOF):
		return noAnswer(where(srv.s.cfg.URL) + ": the stream ended without the answer")
	}
	return srv.s.explain(fmt.Errorf("%s: the answer broke off: %w", where(srv.s.cfg.URL), err)).mayHaveRun()
}

// statusFault puts a refusal of the upstream into words.
func statusFault(resp *http.Response, body string) *fault {
	f := &fault{code: codeStatus, kind: "status", status: resp.StatusCode, body: body,
		text: strings.TrimSpace(fmt.Sprintf("upstream answered with status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode)))}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		f.passes = true
	}
	hint := ""
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		hint = "the upstream does not accept the sign-in; sign in again"
	case http.StatusForbidden:
		hint = "the account in use may not do this"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		hint = "check the URL: it has to be the MCP endpoint itself"
	case http.StatusRequestEntityTooLarge:
		hint = "the upstream does not take requests this large"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		hint = "ask again later"
		if after := retryAfter(resp.Header); after != "" {
			hint = "ask again " + after
		}
	}
	if hint != "" {
		f.hints = []string{hint}
	}
	return f
}

// retryAfter reads Retry-After (RFC 9110, section 10.2.3) for people; "" if there is none or it makes no sense.
func retryAfter(h http.Header) string {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return fmt.Sprintf("in %d s", n)
	}
	if t, err := http.ParseTime(v); err == nil {
		return "after " + t.UTC().Format(time.RFC1123)
	}
	return ""
}
