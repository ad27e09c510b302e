package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

const (
	// maxTrusted is how many bytes we allocate because a Content-Length says so, before they have
	// come.
	maxTrusted = 16 << 20
	// maxPooled is the capacity of the largest buffer that is kept for the next answer. To get new
	// memory of that size takes longer than to read an answer into it.
	maxPooled = 16 << 20
)

// sink takes what one request brings, one message after the other. It returns true for the message
// that answers the request. A message is valid only until sink returns.
type sink func(m rawjson.Message) (answered bool)

const (
	// batchVersion is the only revision that has batches.
	batchVersion = "2025-03-26"
	// maxBatch is how many messages a batch of that revision may have.
	maxBatch = 1024
	// maxStrayBatch is how many messages a server's batch may have in any other revision. Some
	// servers put an answer into an array of one.
	maxStrayBatch = 16
)

// batchError refuses a batch with too many messages.
type batchError struct{ limit int }

func (e *batchError) Error() string { return fmt.Sprintf("a batch of more than %d messages", e.limit) }

// parse gives the message in b to take, or those of a batch. The error is a *rawjson.SyntaxError or
// a *batchError.
func (cl *client) parse(b []byte, take sink) (answered bool, err error) {
	m, err := rawjson.Parse(b)
	switch {
	case err != nil:
		return false, err
	case m.Kind != rawjson.Batch:
		return take(m), nil
	}
	limit := maxStrayBatch
	if cl.batches.Load() {
		limit = maxBatch
	}
	if longerThan(m.Raw, limit) {
		return false, &batchError{limit}
	}
	for e := range rawjson.Elements(m.Raw) {
		if m, err := rawjson.Parse(e); err == nil && take(m) {
			answered = true
		}
	}
	return answered, nil
}

// longerThan reports whether the raw array has more than limit elements.
func longerThan(array []byte, limit int) bool {
	for range rawjson.Elements(array) {
		if limit--; limit < 0 {
			return true
		}
	}
	return false
}

// isAnswer reports whether m answers the request whose id has the given key.
func isAnswer(m rawjson.Message, key string) bool {
	return m.Kind == rawjson.Response && rawjson.ValidID(m.ID) && rawjson.IDKey(m.ID) == key
}

// isStream reports whether resp is an event stream.
func isStream(resp *http.Response) bool {
	return resp.StatusCode/100 == 2 && mediaType(resp.Header) == "text/event-stream"
}

// body reads an answer that is no event stream, and gives what it brings to take. It returns nil
// only if that was the answer; then the HTTP status does not matter. It closes the response's body.
func (cl *client) body(ctx context.Context, resp *http.Response, take sink) error {
	ok := resp.StatusCode/100 == 2
	defer resp.Body.Close()
	limit := cl.cfg.maxMessage
	if !ok {
		limit = maxErrorBody
	}
	buf := getBuffer()
	defer putBuffer(buf)
	if ok && resp.ContentLength > int64(limit) {
		return cl.broken(ctx, errTooLong)
	}
	body, err := readBody(resp, (*buf)[:0], limit)
	*buf = body[:0]
	defer cl.carried(len(body))
	if err != nil && ok {
		return cl.broken(ctx, err)
	}
	answered, err := cl.parse(body, take)
	if answered {
		return nil
	}
	shown := string(body[:min(len(body), maxShown)])
	if !ok {
		return statusFault(resp, shown)
	}
	return cl.notAnAnswer(resp, shown, err)
}

// readBody reads the body of resp into b, which is empty, or into larger memory. If there are more
// than limit bytes it returns these and errTooLong. A byte of capacity is left for the newline that
// the writer to the host appends.
func readBody(resp *http.Response, b []byte, limit int) ([]byte, error) {
	if want := int(min(resp.ContentLength, int64(limit), maxTrusted)) + 2; want > cap(b) {
		b = make([]byte, 0, want)
	}
	for {
		if cap(b)-len(b) < 2 {
			b = append(make([]byte, 0, max(4<<10, min(4*cap(b), cap(b)+maxTrusted))), b...)
		}
		n, err := resp.Body.Read(b[len(b) : cap(b)-1])
		if len(b)+n > limit {
			return b[:limit], errTooLong
		}
		switch b = b[:len(b)+n]; {
		case err == io.EOF:
			return b, nil
		case err != nil:
			return b, err
		}
	}
}

// notAnAnswer is the fault of a body that does not answer the request. err is what parse said of
// it, if that has failed.
func (cl *client) notAnAnswer(resp *http.Response, shown string, err error) error {
	f := noAnswer("")
	f.status, f.body = resp.StatusCode, shown
	switch {
	case strings.TrimSpace(shown) == "":
		f.text = fmt.Sprintf("%s: status %d without an answer", where(cl.cfg.URL), resp.StatusCode)
	case err != nil:
		f.text = fmt.Sprintf("%s: the answer (%q) is %v", where(cl.cfg.URL), excerpt(mediaType(resp.Header), 80), err)
	default:
		f.text = where(cl.cfg.URL) + ": the body is no answer to this request"
	}
	return f
}

// broken is the fault of an answer that ended too early or became too long. If ctx has ended it is
// the cause of that.
func (cl *client) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isTooLong(err):
		cl.carried(cl.cfg.maxMessage)
		f := noAnswer(where(cl.cfg.URL) + ": the answer is a " + errTooLong.Error())
		f.kind = "too_large"
		return f
	case errors.Is(err, io.EOF):
		return noAnswer(where(cl.cfg.URL) + ": the stream ended without the answer")
	}
	return cl.obstacles.explain(fmt.Errorf("%s: the answer broke off: %w", where(cl.cfg.URL), err)).mayHaveRun()
}

// buffers keeps the memory of answers until the garbage collector wants it.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}

// peek returns the beginning of resp's body, which can still be read.
func peek(resp *http.Response, limit int64) []byte {
	head, _ := io.ReadAll(io.LimitReader(resp.Body, limit))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), resp.Body), resp.Body}
	return bytes.Clone(head)
}

// statusFault puts a refusal of the upstream into words.
func statusFault(resp *http.Response, body string) *fault {
	f := newFault(codeStatus, "status", "upstream answered with "+statusText(resp.StatusCode))
	f.status, f.body, f.cause = resp.StatusCode, body, NewStatusError(resp)
	after, given := retryAfter(resp.Header)
	f.after = min(after, maxAfter)
	f.passes = slices.Contains([]int{http.StatusTooEarly, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable,
		http.StatusGatewayTimeout}, resp.StatusCode)
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
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusTooEarly:
		hint = "ask again later"
		if given {
			hint = fmt.Sprintf("ask again in %d s", int(after/time.Second))
		}
	}
	if hint != "" {
		f.hints = []string{hint}
	}
	return f
}

// StatusError is an answer of the upstream whose HTTP status is an error. Config.Explain words it.
type StatusError struct {
	// Status is the HTTP status.
	Status int
	// HadToken says that the request had an Authorization header.
	HadToken bool
	// Challenge is the WWW-Authenticate header of the answer. It is not masked. "" means that there
	// is none.
	Challenge string
	// Page says that the body is an HTML page, as gateways and firewalls send it.
	Page bool
	// RetryAfter is how long the upstream asks us to wait. Zero means that it does not ask.
	RetryAfter time.Duration
}

// NewStatusError returns the error of an answer.
func NewStatusError(resp *http.Response) *StatusError {
	e := &StatusError{Status: resp.StatusCode, Challenge: resp.Header.Get("WWW-Authenticate"),
		Page: mediaType(resp.Header) == "text/html"}
	e.RetryAfter, _ = retryAfter(resp.Header)
	if resp.Request != nil { // the request as it was sent, at the end of all RoundTrippers
		e.HadToken = resp.Request.Header.Get("Authorization") != ""
	}
	return e
}

func (e *StatusError) Error() string { return "upstream answered with " + statusText(e.Status) }

// statusText is an HTTP status in words.
func statusText(status int) string {
	return strings.TrimSpace(fmt.Sprintf("status %d %s", status, http.StatusText(status)))
}

// isFinal reports whether err is a refusal that another attempt would not change.
func isFinal(err error) bool {
	f, ok := errors.AsType[*fault](err)
	if !ok {
		return false
	}
	switch f.status {
	case http.StatusUnauthorized, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return f.kind == "redirect" || f.status/100 == 4
}
