package relay

import (
	"bytes"
	"encoding/json"
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
	codeTransport = -32000 // transport or timeout
	codeStatus    = -32001 // the upstream's HTTP status
)

// maxExcerpt is how many characters of an upstream body an error answer shows.
const maxExcerpt = 500

// maxText is how many characters of an error's words go to the host.
const maxText = 2000

// fault is why a request has no answer of the server's: the content of an error answer.
type fault struct {
	code   int
	kind   string   // stable word
	text   string   // one line
	url    string   // a link for the person
	hints  []string // never text of the upstream: they are not masked
	status int      // HTTP
	body   string   // the upstream's; cut and masked by line
	lost   bool     // the upstream has forgotten the session
	notRun bool     // the upstream refused the request
	passes bool     // the upstream was not reached, which time may mend
}

func (f *fault) Error() string { return f.text }

// line returns the JSON-RPC answer to id; nil stands for null.
func (f *fault) line(id []byte, mask func(string) string) []byte {
	type data struct {
		Kind   string   `json:"kind"`
		Hint   string   `json:"hint,omitempty"`  // all hints, one per line
		Hints  []string `json:"hints,omitempty"` // the same apart
		URL    string   `json:"url,omitempty"`
		Status int      `json:"status,omitempty"`
		Body   string   `json:"body,omitempty"`
	}
	e := struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    data   `json:"data"`
	}{f.code, clean(f.text, mask, maxText), data{Kind: f.kind, URL: f.url, Status: f.status, Body: excerpt(mask(f.body), maxExcerpt)}}
	for _, h := range f.hints {
		// Not masked and not cut: our own words, and a sign-in link in them has to work.
		e.Data.Hints = append(e.Data.Hints, oneLine(h))
	}
	e.Data.Hint = strings.Join(e.Data.Hints, "\n")
	if id == nil {
		id = []byte("null")
	}
	var b bytes.Buffer
	b.WriteString(`{"jsonrpc":"2.0","id":`)
	b.Write(id)
	b.WriteString(`,"error":`)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // links stay readable
	enc.Encode(e)            // cannot fail: strings and ints into memory
	b.Truncate(b.Len() - 1)
	b.WriteByte('}')
	return b.Bytes()
}

// clean makes s one line of at most n characters without secrets.
func clean(s string, mask func(string) string, n int) string {
	return excerpt(oneLine(mask(s)), n)
}

// oneLine makes every run of white space in s one space.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// excerpt returns at most n characters of s.
func excerpt(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// logID is a request's id as a log attribute.
func logID(raw []byte) string { return excerpt(string(raw), 64) }

func obstacleFault(o *Obstacle) *fault {
	return &fault{code: codeTransport, kind: o.Kind, text: o.Text, url: o.URL, hints: o.Hints, passes: true}
}

func timeoutFault(limit time.Duration) *fault {
	return &fault{code: codeTransport, kind: "timeout", text: fmt.Sprintf("no answer and no progress within %v", limit), passes: true,
		hints: []string{"allow a call more time with a longer timeout"}}
}

func closingFault() *fault {
	return &fault{code: codeTransport, kind: "closed", text: errClosing.Error()}
}

func invalidRequest(text string) *fault {
	return &fault{code: codeInvalid, kind: "invalid_request", text: text}
}

// noAnswer is a fault of a request that reached the upstream.
func noAnswer(text string) *fault {
	return (&fault{code: codeTransport, kind: "bad_answer", text: text}).mayHaveRun()
}

// mayHaveRun returns a copy of f that warns of repeating the request, which was written.
func (f fault) mayHaveRun() *fault {
	if f.code == codeTransport && !f.notRun {
		f.hints = append(slices.Clip(f.hints), "the request may have run; repeat it if that does no harm")
	}
	return &f
}

// cancelNotice is the notice that the request with this id is no longer waited for.
func cancelNotice(id []byte, reason string) rawjson.Message {
	return rawjson.Message{Kind: rawjson.Notification, Method: "notifications/cancelled",
		Raw: []byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + string(id) + `,"reason":"` + reason + `"}}`)}
}
