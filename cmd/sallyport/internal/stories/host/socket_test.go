//go:build linux

package host_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"

	"golang.org/x/sys/unix"
)

// large is an answer that no socket's buffer holds.
var large = strings.Repeat("x", 4<<20)

// answer is an MCP server that has no session and answers a ping with large.
func answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.Contains(string(body), `"initialize"`):
		io.WriteString(w, `{"jsonrpc":"2.0","id":"first","result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}`)
	case strings.Contains(string(body), `"ping"`):
		io.WriteString(w, `{"jsonrpc":"2.0","id":2,"result":{"text":"`+large+`"}}`)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// socketPair returns the two ends of a socket.
func socketPair(t *testing.T) (near, far *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	near, far = os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return near, far
}

// isNonblocking tells whether O_NONBLOCK is set.
func isNonblocking(t *testing.T, f *os.File) bool {
	t.Helper()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// A host on Node.js gives sockets for stdin and stdout, and some hosts give one for both. Either
// way a session goes through, large answers too, and the socket is left as it was.
func TestStdinIsASocket(t *testing.T) {
	t.Parallel()
	url := machines.Serve(t, http.HandlerFunc(answer))
	for _, tt := range []struct {
		name     string
		same     bool // one socket for stdin and stdout
		nonblock bool // while the session lasts
	}{{"two sockets", false, true}, {"one socket", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			in, stdin := socketPair(t)
			out, stdout := in, stdin
			if !tt.same {
				out, stdout = socketPair(t)
			}
			cmd := machines.Command(t, t.TempDir(), "--grant", "none", "--token-store", "memory", url)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, t.Output()
			machines.OwnGroup(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			for _, step := range []struct{ line, want string }{
				{machines.InitializeLine, `"protocolVersion"`},
				{`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n" +
					`{"jsonrpc":"2.0","id":2,"method":"ping"}` + "\n", large},
			} {
				if _, err := io.WriteString(in, step.line); err != nil {
					t.Fatal(err)
				}
				if got, err := lines.ReadString('\n'); err != nil || !strings.Contains(got, step.want) {
					t.Fatalf("answer %.200q, %v", got, err)
				}
			}
			if got := isNonblocking(t, stdin); got != tt.nonblock {
				t.Errorf("O_NONBLOCK %v in the session, want %v", got, tt.nonblock)
			}
			if err := unix.Shutdown(int(in.Fd()), unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("sallyport: %v", err)
			}
			if isNonblocking(t, stdin) {
				t.Error("O_NONBLOCK after the end")
			}
		})
	}
}
