//go:build linux

package hostile_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/cmd/sallyport/internal/machines"
)

// frames is a server of HTTP/2 that answers calls with frames of its own choice.
type frames struct {
	net.Conn
	*http2.Framer
	head bytes.Buffer
	enc  *hpack.Encoder
}

// headers returns a block of header fields.
func (f *frames) headers(fields ...string) []byte {
	f.head.Reset()
	for i := 0; i < len(fields); i += 2 {
		f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(f.head.Bytes())
}

func (f *frames) answer(stream uint32, status, body string) {
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true,
		BlockFragment: f.headers(":status", status, "content-type", "application/json")})
	f.WriteData(stream, true, []byte(body))
}

// received is a frame that is to be answered.
type received struct {
	settings, data, ended bool
	stream                uint32
	body                  string
}

// read passes on what is to be answered, until the connection ends. The rest, such as
// acknowledgements, is read and dropped.
func (f *frames) read(to chan<- received) {
	defer close(to)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				to <- received{settings: true}
			}
		case *http2.HeadersFrame:
			to <- received{stream: frame.StreamID, ended: frame.StreamEnded()}
		case *http2.DataFrame:
			to <- received{data: true, stream: frame.StreamID, ended: frame.StreamEnded(), body: string(frame.Data())}
		}
	}
}

// serve answers requests until the connection ends. tool answers calls, with the number of their
// stream.
func (f *frames) serve(tool func(f *frames, stream uint32)) {
	arrived := make(chan received, 1000) // more than one case sends while tool writes
	defer func() {
		f.Close()
		for range arrived { // lets read end
		}
	}()
	io.ReadFull(f, make([]byte, len(http2.ClientPreface)))
	go f.read(arrived) // ends with the connection
	f.WriteSettings()
	bodies := map[uint32]string{}
	for frame := range arrived {
		id := frame.stream
		switch {
		case frame.settings:
			f.WriteSettingsAck()
		case !frame.data:
			if frame.ended { // a GET or a DELETE
				f.answer(id, "405", "")
			}
		default:
			bodies[id] += frame.body
			if !frame.ended {
				continue
			}
			switch body := bodies[id]; {
			case strings.Contains(body, `"initialize"`):
				f.answer(id, "200", `{"jsonrpc":"2.0","id":"first","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}}`)
			case strings.Contains(body, `"server/discover"`):
				f.answer(id, "400", "")
			case strings.Contains(body, `"ping"`):
				f.answer(id, "200", `{"jsonrpc":"2.0","id":3,"result":{}}`)
			case !strings.Contains(body, `"id"`):
				f.answer(id, "202", "")
			default:
				tool(f, id)
			}
			delete(bodies, id)
		}
	}
}

// What a server of HTTP/2 may send beside an answer is bounded, too.
func TestFrames(t *testing.T) {
	many := func(n int, write func(f *frames, id uint32) error) func(f *frames, id uint32) {
		return func(f *frames, id uint32) {
			for range n {
				if write(f, id) != nil {
					return
				}
			}
			f.answer(id, "200", `{"jsonrpc":"2.0","id":2,"result":{}}`)
		}
	}
	for _, row := range []struct {
		name  string
		letIn int64
		tool  func(f *frames, id uint32)
	}{
		{"an answer", 0, many(0, nil)},
		{"CONTINUATION", 0, func(f *frames, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.headers(":status", "200")})
			block := f.headers("a", strings.Repeat("x", 8000))
			for range 20000 {
				if f.WriteContinuation(id, false, block) != nil {
					return
				}
			}
		}},
		{"empty CONTINUATION", 0, func(f *frames, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.headers(":status", "200")})
			for range 400000 {
				if f.WriteContinuation(id, false, nil) != nil {
					return
				}
			}
		}},
		{"indexed header fields", 0, func(f *frames, id uint32) {
			block := f.headers(":status", "200", "x", strings.Repeat("x", 4000))
			block = append(block, bytes.Repeat(f.headers("x", strings.Repeat("x", 4000)), 16000-len(block))...)
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block[:min(len(block), 16000)]})
			f.WriteData(id, true, []byte(`{"jsonrpc":"2.0","id":2,"result":{}}`))
		}},
		{"PING", 0, many(200000, func(f *frames, id uint32) error { return f.WritePing(false, [8]byte{1}) })},
		{"SETTINGS", 0, many(200000, func(f *frames, id uint32) error { return f.WriteSettings() })},
		{"WINDOW_UPDATE", 0, many(200000, func(f *frames, id uint32) error { return f.WriteWindowUpdate(0, 1) })},
		{"empty DATA", 0, func(f *frames, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: f.headers(":status", "200")})
			for range 400000 {
				if f.WriteData(id, false, nil) != nil {
					return
				}
			}
			f.WriteData(id, true, []byte(`{"jsonrpc":"2.0","id":2,"result":{}}`))
		}},
		{"padded DATA", 0, func(f *frames, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: f.headers(":status", "200")})
			for range 400000 {
				if f.WriteDataPadded(id, false, nil, make([]byte, 250)) != nil {
					return
				}
			}
			f.WriteData(id, true, []byte(`{"jsonrpc":"2.0","id":2,"result":{}}`))
		}},
		{"interim responses", 0, many(200000, func(f *frames, id uint32) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: f.headers(":status", "103")})
		})},
		{"unknown frames", 0, many(100000, func(f *frames, id uint32) error { return f.WriteRawFrame(0xbe, 0, id, make([]byte, 1000)) })},
		{"PRIORITY", 0, many(200000, func(f *frames, id uint32) error { return f.WritePriority(id, http2.PriorityParam{Weight: 1}) })},
		{"RST_STREAM", 0, many(200000, func(f *frames, id uint32) error { return f.WriteRSTStream(1, http2.ErrCodeCancel) })},
		{"PUSH_PROMISE", 0, many(10000, func(f *frames, id uint32) error {
			return f.WritePushPromise(http2.PushPromiseParam{StreamID: id, PromiseID: 2, EndHeaders: true, BlockFragment: f.headers(":method", "GET")})
		})},
		{"DATA beyond the window", 0, func(f *frames, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: f.headers(":status", "200", "content-type", "text/event-stream")})
			for range 100000 {
				if f.WriteData(id, false, bytes.Repeat([]byte(":\n"), 8000)) != nil {
					return
				}
			}
			f.WriteData(id, true, []byte("data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n\n"))
		}},
		{"trailers", 0, func(f *frames, id uint32) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: f.headers(":status", "200")})
			f.WriteData(id, false, []byte(`{"jsonrpc":"2.0","id":2,"result":{}}`))
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: f.headers("a", "b")})
			block := f.headers("a", strings.Repeat("x", 8000))
			for range 20000 {
				if f.WriteContinuation(id, false, block) != nil {
					return
				}
			}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			url, ca := startFrames(t, &sent, row.tool)
			h := start(t, false, "--grant", "none", "--ca-file", ca, url+"/mcp")
			h.open()
			h.send(request(2, "tools/call"))
			l := h.answer("2")
			h.send(request(3, "ping"))
			h.answer("3")
			h.check(sent.Load(), row.letIn, told(l))
		})
	}
}

func startFrames(t *testing.T, sent *atomic.Int64, tool func(f *frames, id uint32)) (url, ca string) {
	t.Helper()
	web := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer web.Close()
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(machines.PEM("CERTIFICATE", web.Certificate().Raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn = counted{conn, sent}
			f := &frames{Conn: conn, Framer: http2.NewFramer(conn, conn)}
			f.AllowIllegalWrites = true
			f.enc = hpack.NewEncoder(&f.head)
			go f.serve(tool) // ends with the connection
		}
	}()
	return fmt.Sprintf("https://%s", ln.Addr()), ca
}
