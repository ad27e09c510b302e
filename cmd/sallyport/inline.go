package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	inlineBody   = 16 << 10 // bytes of a request's body: so much a connection takes before anybody reads
	inlineHeader = 1 << 20  // bytes of a response's header
	inlineBuffer = 4 << 10  // of a connection, for each direction
)

// inlineTransport carries small POSTs over cleartext HTTP/1.1 in the goroutine that asks for it, and leaves all others to rest.
// net/http has two goroutines for each connection: the request is handed to one and the response back by the other, which is a good part
// of the time of a call to a server nearby, and of the processor's where there are many. What goes over the wire is net/http's own writing
// and reading. As no goroutine reads a connection at rest, whether the server has closed it is asked when it is used again.
type inlineTransport struct {
	rest *http.Transport // its DialContext, Proxy and IdleConnTimeout count here, too

	mu    sync.Mutex    // guards what follows
	idle  []*inlineConn // connections at rest, by the time since when
	sweep *time.Timer   // closes those that rest for too long; nil before the first
}

func newInlineTransport(rest *http.Transport) *inlineTransport { return &inlineTransport{rest: rest} }

// takes reports whether req is carried here.
func (t *inlineTransport) takes(req *http.Request) bool {
	if req.URL.Scheme != "http" || req.Method != http.MethodPost || req.ContentLength <= 0 || req.ContentLength > inlineBody || req.Close {
		return false
	}
	for name, values := range req.Header {
		switch name {
		case "Connection", "Expect", "Upgrade":
			return false
		}
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return false // net/http says what is wrong
		}
	}
	if strings.ContainsFunc(req.URL.Host, func(r rune) bool { return r > '~' }) {
		return false // a name that net/http rewrites
	}
	if t.rest.Proxy == nil {
		return true
	}
	proxy, err := t.rest.Proxy(req)
	return proxy == nil && err == nil
}

// RoundTrip returns the errors of rest's DialContext, of the connection, and of net/http's reading. Of the hooks of httptrace it calls GetConn
// and GotFirstResponseByte, and Request.Write those of what is written: before it is sent, as in net/http.
func (t *inlineTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !t.takes(req) {
		return t.rest.RoundTrip(req)
	}
	ctx := req.Context()
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil {
		trace = &httptrace.ClientTrace{}
	}
	for body := req.Body; ; {
		if trace.GetConn != nil {
			trace.GetConn(dialAddr(req.URL))
		}
		c, err := t.conn(ctx, dialAddr(req.URL))
		if err != nil {
			body.Close()
			return nil, err
		}
		resp, err := c.exchange(req, body, trace)
		if err == nil || !c.used || c.sent > 0 || req.GetBody == nil || ctx.Err() != nil {
			return resp, err
		}
		// The server has closed it in this very moment, before anything was sent.
		if body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// conn returns a connection at rest that is fit for use, or a new one.
func (t *inlineTransport) conn(ctx context.Context, addr string) (*inlineConn, error) {
	for {
		t.mu.Lock()
		last := len(t.idle) - 1
		if last < 0 {
			t.mu.Unlock()
			break
		}
		c := t.idle[last]
		t.idle[last] = nil
		t.idle = t.idle[:last]
		t.mu.Unlock()
		if c.addr == addr && !t.old(c.rested()) && quiet(c.Conn) {
			return c, nil
		}
		c.Close()
	}
	conn, err := t.rest.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &inlineConn{Conn: conn, t: t, addr: addr}
	c.r, c.w = bufio.NewReaderSize(&c.head, inlineBuffer), bufio.NewWriterSize(c, inlineBuffer)
	c.head.R = conn
	return c, nil
}

// old reports whether a connection that has rested for so long is to be closed.
func (t *inlineTransport) old(rested time.Duration) bool {
	return t.rest.IdleConnTimeout > 0 && rested >= t.rest.IdleConnTimeout
}

// keep puts c to rest.
func (t *inlineTransport) keep(c *inlineConn) {
	c.used, c.since = true, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) >= maxIdleConns {
		c.Close()
		return
	}
	t.idle = append(t.idle, c)
	if len(t.idle) == 1 {
		t.sweepLocked()
	}
}

// sweepLocked has the old ones closed when the first of them is.
func (t *inlineTransport) sweepLocked() {
	if len(t.idle) == 0 || t.rest.IdleConnTimeout <= 0 {
		return
	}
	left := max(0, t.rest.IdleConnTimeout-t.idle[0].rested())
	if t.sweep == nil {
		t.sweep = time.AfterFunc(left, func() { t.close(t.old) })
	} else {
		t.sweep.Reset(left)
	}
}

// CloseIdleConnections closes what is at rest. Calls under way go on.
func (t *inlineTransport) CloseIdleConnections() {
	t.close(func(time.Duration) bool { return true })
	t.rest.CloseIdleConnections()
}

// close closes what has rested for what old says is too long.
func (t *inlineTransport) close(old func(rested time.Duration) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = slices.DeleteFunc(t.idle, func(c *inlineConn) bool {
		gone := old(c.rested())
		if gone {
			c.Close()
		}
		return gone
	})
	t.sweepLocked()
}

// inlineConn is one connection. It is used by one exchange at a time.
type inlineConn struct {
	net.Conn
	t    *inlineTransport
	addr string
	head io.LimitedReader // what r reads from, for a header no longer than inlineHeader
	r    *bufio.Reader
	w    *bufio.Writer

	used  bool      // an exchange has gone well
	since time.Time // when that was
	sent  int       // bytes of the request under way
}

// rested is how long c has rested, by the wall clock: a machine that sleeps loses its connections.
func (c *inlineConn) rested() time.Duration { return time.Now().Round(0).Sub(c.since.Round(0)) }

func (c *inlineConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent += n
	return n, err
}

// exchange sends req with body, which it closes, and reads the response's header. After an error the connection is closed.
func (c *inlineConn) exchange(req *http.Request, body io.ReadCloser, trace *httptrace.ClientTrace) (_ *http.Response, err error) {
	ctx := req.Context()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer func() {
		if err != nil {
			stop()
			c.Close()
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
		}
	}()
	r := *req
	r.Body = body
	zip := req.Header.Get("Accept-Encoding") == "" && req.Header.Get("Range") == ""
	if zip {
		r.Header = maps.Clone(req.Header)
		r.Header["Accept-Encoding"] = []string{"gzip"}
	}
	c.sent = 0
	if err = r.Write(c.w); err == nil {
		err = c.w.Flush()
	}
	if err != nil {
		return nil, err
	}
	c.head.N = inlineHeader
	if _, err = c.r.Peek(1); err != nil {
		return nil, err
	}
	if trace.GotFirstResponseByte != nil {
		trace.GotFirstResponseByte()
	}
	resp, err := http.ReadResponse(c.r, req)
	for err == nil && resp.StatusCode/100 == 1 && resp.StatusCode != http.StatusSwitchingProtocols {
		resp, err = http.ReadResponse(c.r, req) // what comes first is only on the way (RFC 9110, section 15.2)
	}
	switch {
	case c.head.N <= 0:
		return nil, fmt.Errorf("the response's header is longer than %d bytes", inlineHeader)
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return nil, errors.New("the server switches protocols unasked")
	}
	c.head.N = math.MaxInt64
	b := &inlineResponse{Reader: resp.Body, c: c, ctx: ctx, stop: stop, keep: !resp.Close}
	if resp.ContentLength == 0 {
		b.end(true)
		return resp, nil
	}
	resp.Body = b
	if zip && strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		resp.Body = &gzipBody{body: b}
		resp.Header.Del("Content-Encoding")
		resp.Header.Del("Content-Length")
		resp.ContentLength, resp.Uncompressed = -1, true
	}
	return resp, nil
}

// inlineResponse is the body of a response, whose end gives the connection back. Read and Close must not be called concurrently.
type inlineResponse struct {
	io.Reader
	c    *inlineConn
	ctx  context.Context // of the request
	stop func() bool     // ends its hold on c; false: it has closed c
	keep bool            // the server does
	over bool
}

func (b *inlineResponse) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !b.over {
		b.end(err == io.EOF)
	}
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *inlineResponse) Close() error {
	if !b.over {
		b.end(false)
	}
	return nil
}

// end lets go of the connection; whole: the body was read to its end.
func (b *inlineResponse) end(whole bool) {
	b.over = true
	if b.stop() && whole && b.keep && b.c.r.Buffered() == 0 {
		b.c.t.keep(b.c)
		return
	}
	b.c.Close()
}

// gzipBody is the body of a compressed response, read as it is asked for.
type gzipBody struct {
	body io.ReadCloser
	r    *gzip.Reader
	err  error
}

func (g *gzipBody) Read(p []byte) (int, error) {
	if g.r == nil && g.err == nil {
		g.r, g.err = gzip.NewReader(g.body)
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.r.Read(p)
}

func (g *gzipBody) Close() error { return g.body.Close() }

// idler is a connection that knows whether a Read would wait.
type idler interface{ Idle() bool }

// quiet reports whether conn, at rest, is fit for another request: nothing has come unasked, nor an end.
func quiet(conn net.Conn) bool {
	if c, ok := conn.(idler); ok {
		return c.Idle()
	}
	return quietSocket(conn)
}
