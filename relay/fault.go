package relay

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/relay/rawjson"
)

// JSON-RPC error codes of our own answers.
const (
	codeParse     = -32700
	codeInvalid   = -32600
	codeNoMethod  = -32601
	codeParams    = -32602
	codeTransport = -32000 // the upstream was not reached, or has not answered
	codeStatus    = -32001 // the upstream has answered with an HTTP status that is an error
)

// kindClosed is the kind of a fault that says only that the session ends.
const kindClosed = "closed"

const (
	maxExcerpt = 500      // characters of an upstream body in an error answer
	maxText    = 2000     // characters of an error's words
	maxCleaned = 64 << 10 // bytes of a text that are looked at for these
)

// fault says why a request has no answer of the server: it is the content of an error answer of our
// own.
type fault struct {
	// code is the JSON-RPC error code.
	code int
	// kind is a stable word, as that of an Obstacle.
	kind string
	// text is one line. It may quote the upstream, and is masked on its way to the host.
	text string
	// url is what a person has to open. "" means that there is nothing to open.
	url string
	// hints never quote the upstream, and are not masked.
	hints []string
	// status is the HTTP status. 0 means that there was none.
	status int
	// body is the upstream's. It is cut and masked on its way to the host.
	body string
	// sessionLost says that the upstream has refused the request because it does not know the
	// session.
	sessionLost bool
	// notRun says that the upstream has refused the request.
	notRun bool
	// passes says that the upstream was not reached, or was overloaded, so that another attempt may
	// help.
	passes bool
	// after is how long the upstream has asked us to wait. 0 means that it did not.
	after time.Duration
	// cause is the error of the RoundTripper. It is nil if there was none.
	cause error
	// final is the Final of the Obstacle or Explanation. It is nil if waiting may help.
	final error
}

func newFault(code int, kind, text string, hints ...string) *fault {
	return &fault{code: code, kind: kind, text: text, hints: hints}
}

func (f *fault) Error() string { return f.text }

// line returns the error answer to the request with the raw id. Nil stands for null.
func (f *fault) line(id []byte, mask func(string) string) []byte {
	type data struct {
		Kind   string   `json:"kind"`
		Hint   string   `json:"hint,omitempty"`  // all hints, one a line
		Hints  []string `json:"hints,omitempty"` // the same hints, apart
		URL    string   `json:"url,omitempty"`
		Status int      `json:"status,omitempty"`
		Body   string   `json:"body,omitempty"`
	}
	e := struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    data   `json:"data"`
	}{f.code, clean(f.text, mask, maxText) + f.nextStep(), data{Kind: f.kind, URL: f.url, Status: f.status}}
	e.Data.Body = excerpt(mask(f.body), maxExcerpt)
	for _, h := range f.hints {
		// Neither masked nor cut: these are our own words, and a URL in them has to work.
		e.Data.Hints = append(e.Data.Hints, oneLine(h))
	}
	e.Data.Hint = strings.Join(e.Data.Hints, "\n")
	if id == nil {
		id = []byte("null")
	}
	return slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), id, []byte(`,"error":`), encode(e), []byte("}"))
}

// nextStep returns the hints as the end of a message. Many hosts show the message and nothing else.
func (f *fault) nextStep() string {
	if len(f.hints) == 0 {
		return ""
	}
	return "; hint: " + oneLine(strings.Join(f.hints, "; "))
}

// textOf returns the words for f: those of e, and for what e leaves empty those of f itself.
func (f *fault) textOf(e Explanation) (text, kind string, hints []string) {
	if e.Hints == nil {
		e.Hints = f.hints
	}
	return cmp.Or(e.Text, f.text), cmp.Or(e.Kind, f.kind), e.Hints
}

// clean makes one line of at most n characters of s, without secrets. A peer may have made s long,
// so only its beginning is looked at. Of that the end is left out again, because a secret that the
// cut has split would not be known there.
func clean(s string, mask func(string) string, n int) string {
	if len(s) <= maxCleaned {
		return excerpt(oneLine(mask(s)), n)
	}
	s = mask(s[:maxCleaned])
	return excerpt(oneLine(s[:len(s)-min(len(s), maxCleaned/4)]), n)
}

// shortText decodes the beginning of a raw string. It returns "" for any other raw value.
func shortText(raw []byte) string {
	if len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	return rawjson.TextPrefix(raw, maxShown)
}

// oneLine makes one space of each run of white space in s.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// excerpt returns the first n characters of s, or all of s if it has fewer.
func excerpt(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// logID returns the raw id of a request for the log.
func logID(raw []byte) string { return excerpt(string(raw[:min(len(raw), 4*64)]), 64) }

// fault is the answer to a request that o has kept from the upstream. If there is something to
// open, the hints say so: hosts show them, and not the URL in data.
func (o *Obstacle) fault() *fault {
	f := &fault{code: codeTransport, kind: o.Kind, text: o.Text, url: o.URL, hints: o.Hints, passes: true, final: o.Final}
	if o.URL == "" {
		return f
	}
	if !slices.ContainsFunc(o.Hints, func(hint string) bool { return strings.Contains(hint, o.URL) }) {
		f.hints = slices.Concat([]string{"open " + o.URL + " in a browser"}, f.hints)
	}
	f.hints = append(slices.Clip(f.hints), "when that is done, repeat the request")
	return f
}

func timeoutFault(limit time.Duration) *fault {
	f := newFault(codeTransport, "timeout", fmt.Sprintf("no answer and no progress within %v", limit),
		"allow a call more time with a longer timeout")
	f.passes = true
	return f
}

func closingFault() *fault {
	return newFault(codeTransport, kindClosed, errClosing.Error())
}

func invalidRequest(text string) *fault {
	return newFault(codeInvalid, "invalid_request", text)
}

func invalidParams(text string) *fault {
	return newFault(codeParams, "invalid_request", text)
}

// sessionRefused is the fault of a session that the server has refused with the error in line.
func sessionRefused(line []byte) *fault {
	f := newFault(codeTransport, "initialize",
		"the server refuses the session: "+shortText(rawjson.Member(line, "error", "message")))
	f.notRun = true
	return f
}

// noAnswer is the fault of a request that has reached the upstream.
func noAnswer(text string) *fault {
	return newFault(codeTransport, "bad_answer", text).mayHaveRun()
}

// mayHaveRun returns a copy of f that warns the host of repeating the request, because it was
// written.
func (f fault) mayHaveRun() *fault {
	if f.code == codeTransport && !f.notRun {
		f.hints = append(slices.Clip(f.hints), "the request may have run; repeat it if that does no harm")
	}
	return &f
}
