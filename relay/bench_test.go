package relay

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// One call at a time over a socket, against the same POST by a bare client. The bytes of the result
// are in the name.
func BenchmarkCall(b *testing.B) {
	for _, size := range []int{100, 1 << 20, 8 << 20} {
		answer := []byte(`{"jsonrpc":"2.0","id":7,"result":{"text":"` + strings.Repeat("x", size) + `"}}`)
		for _, sse := range []bool{false, true} {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				if sse {
					w.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprintf(w, "data: %s\n\n", answer)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				w.Write(answer)
			}))
			name := fmt.Sprintf("%d/json", size)
			if sse {
				name = fmt.Sprintf("%d/sse", size)
			}
			b.Run(name+"/bare", func(b *testing.B) {
				b.SetBytes(int64(size))
				for b.Loop() {
					resp, err := http.Post(web.URL, "application/json", strings.NewReader(callLine))
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
			b.Run(name+"/relay", func(b *testing.B) {
				b.SetBytes(int64(size))
				inR, inW := io.Pipe()
				outR, outW := io.Pipe()
				done := make(chan error, 1)
				tr := &http.Transport{}
				go func() { done <- Run(b.Context(), Config{In: inR, Out: outW, URL: mustURL(web.URL), Send: tr}) }()
				out := bufio.NewReaderSize(outR, 64<<10)
				for b.Loop() {
					io.WriteString(inW, callLine+"\n")
					for {
						if _, err := out.ReadSlice('\n'); err == nil {
							break
						} else if err != bufio.ErrBufferFull {
							b.Fatal(err)
						}
					}
				}
				inW.Close()
				<-done
				tr.CloseIdleConnections()
			})
			web.Close()
		}
	}
}
