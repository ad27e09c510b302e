package relay

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	. "sallyport/relay/relaytest"
)

const (
	callLine   = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}`
	callAnswer = `{"jsonrpc":"2.0","id":7,"result":{"content":[]}}`
	pingLine   = `{"jsonrpc":"2.0","id":"p","method":"ping"}`
	pingAnswer = `{"jsonrpc":"2.0","id":"p","result":{}}`
)

// answerLine is an error answer as the host sees it.
type answerLine struct {
	ID    json.RawMessage `json:"id"`
	Error struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Kind, Hint, URL, Body string
			Hints                 []string
			Status                int
		}
	}
}

// decode parses an error answer. Its message ends with the hints, which decode cuts off.
func decode(t *testing.T, line string) answerLine {
	t.Helper()
	var a answerLine
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	cause, step, _ := strings.Cut(a.Error.Message, "; hint: ")
	if want := strings.Join(a.Error.Data.Hints, "; "); step != want {
		t.Errorf("the next step in the message is %q, want %q", step, want)
	}
	a.Error.Message = cause
	return a
}

// What the host sends wrong is answered, and the session goes on.
func TestHostFaults(t *testing.T) {
	tests := []struct {
		name, line, id string
		code           int
	}{
		{"not JSON", `{"jsonrpc":"2.0",`, "null", -32700},
		{"control character", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\x01\"}", "null", -32700},
		{"no message", `{"jsonrpc":"2.0"}`, "null", -32600},
		{"a number", `12`, "null", -32600},
		{"null id", `{"jsonrpc":"2.0","id":null,"method":"ping"}`, "null", -32600},
		{"object id", `{"jsonrpc":"2.0","id":{},"method":"ping"}`, "null", -32600},
		{"empty batch", `[]`, "null", -32600},
		{"too long", `{"jsonrpc":"2.0","method":"tools/call","params":{"a":"` + strings.Repeat("x", smallLimit) + `"},"id":"big\u0041"}`, `"big\u0041"`, -32600},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, _ := open(t, Config{maxMessage: smallLimit}, Exchange{Call: "ping", Reply: pingAnswer}, Goodbye())
				h.send(tt.line)
				line := h.recv()
				if a := decode(t, line); a.Error.Code != tt.code || !strings.Contains(line, `"id":`+tt.id+`,`) {
					t.Errorf("got %s", line)
				}
				h.send(pingLine)
				h.want(pingAnswer)
				h.close()
			})
		})
	}
}

// A hint is ours and may hold the sign-in link, which a person must be able to use; text and body
// may be the upstream's.
func TestHintsAreNotMasked(t *testing.T) {
	link := "https://as.test/authorize?state=s3cret&scope=" + strings.Repeat("a+", maxText)
	o := &Obstacle{Kind: KindSignIn, Text: "a person is to sign in (s3cret)", URL: link, Hints: []string{"open this link:\n" + link}}
	f := o.fault()
	f.body = "s3cret"
	a := decode(t, string(f.line([]byte("1"), func(s string) string { return strings.ReplaceAll(s, "s3cret", "***") })))
	if d := a.Error.Data; d.URL != link || len(d.Hints) != 2 || d.Hints[0] != "open this link: "+link || d.Hint != strings.Join(d.Hints, "\n") {
		t.Errorf("hint %q, hints %q, url %q", d.Hint, d.Hints, d.URL)
	}
	if d := a.Error.Data; a.Error.Message != "a person is to sign in (***)" || d.Body != "***" {
		t.Errorf("message %q, body %q", a.Error.Message, d.Body)
	}
}
