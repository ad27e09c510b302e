package session

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

func zip(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// An answer may be compressed, and may grow. But few bytes do not become very many.
func TestInflate(t *testing.T) {
	const large = inflateFree + 2<<20
	words := make([]byte, 0, large)
	for len(words) < large {
		words = append(words, "row "+strings.Repeat(string(rune('a'+rand.IntN(26))), rand.IntN(20))+"\n"...)
	}
	for _, tt := range []struct {
		name string
		text []byte
		want error
	}{
		{"nothing", nil, nil},
		{"short", bytes.Repeat([]byte("0,"), inflateFree/2), nil},
		{"long", words, nil},
		{"a bomb", make([]byte, large), errInflated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := &http.Response{Header: http.Header{"Content-Encoding": {"gzip"}, "Content-Length": {"5"}}, ContentLength: 5,
				Body: io.NopCloser(bytes.NewReader(zip(t, tt.text)))}
			inflate(resp)
			got, err := io.ReadAll(resp.Body)
			if !errors.Is(err, tt.want) || err == nil && !bytes.Equal(got, tt.text) {
				t.Errorf("got %d bytes, %v; want %v", len(got), err, tt.want)
			}
			if len(got) > inflateFree+maxRatio*len(zip(t, tt.text))+1<<20 {
				t.Errorf("got %d bytes", len(got))
			}
			if resp.ContentLength != -1 || len(resp.Header) != 0 {
				t.Errorf("length %d, header %v", resp.ContentLength, resp.Header)
			}
		})
	}
}

// Who asks for an encoding gets what the server sends.
func TestInflateLeavesOthersAlone(t *testing.T) {
	for name, value := range map[string]string{"Accept-Encoding": "identity", "Range": "bytes=0-1"} {
		req, _ := http.NewRequest(http.MethodGet, "http://a.test/", nil)
		req.Header.Set(name, value)
		if askForGzip(req) {
			t.Errorf("%s: gzip is asked for", name)
		}
	}
	resp := &http.Response{Header: http.Header{"Content-Encoding": {"br"}}, Body: io.NopCloser(strings.NewReader("x"))}
	inflate(resp)
	if got, _ := io.ReadAll(resp.Body); string(got) != "x" {
		t.Errorf("got %q", got)
	}
}
