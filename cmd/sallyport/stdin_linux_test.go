package main

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A host on Node.js gives sockets for stdin and stdout, and some hosts one for both. Either way a
// session goes through, large answers too, and the socket is left as it was.
func TestStdinSocket(t *testing.T) {
	large := strings.Repeat("x", 4<<20)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
	}))
	defer web.Close()
	pair := func(t *testing.T) (near, far *os.File) {
		t.Helper()
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		near, far = os.NewFile(uintptr(fds[0]), "near"), os.NewFile(uintptr(fds[1]), "far")
		t.Cleanup(func() { near.Close(); far.Close() })
		return near, far
	}
	for _, tt := range []struct {
		name     string
		same     bool // one socket for stdin and stdout
		nonblock bool // while the session lasts
	}{{"two sockets", false, true}, {"one socket", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			in, stdin := pair(t)
			out, stdout := in, stdin
			if !tt.same {
				out, stdout = pair(t)
			}
			nonblock := func() bool {
				t.Helper()
				flags, err := unix.FcntlInt(stdin.Fd(), unix.F_GETFL, 0)
				if err != nil {
					t.Fatal(err)
				}
				return flags&unix.O_NONBLOCK != 0
			}
			home := t.TempDir()
			cmd := exec.CommandContext(t.Context(), buildSallyport(t), "--grant", "none", "--token-store", "memory", web.URL)
			cmd.Env = []string{"HOME=" + home, "XDG_RUNTIME_DIR=" + home}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, t.Output()
			ownGroup(cmd)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			for _, step := range []struct{ line, want string }{
				{initializeLine, `"protocolVersion"`},
				{`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n" + `{"jsonrpc":"2.0","id":2,"method":"ping"}` + "\n", large},
			} {
				if _, err := io.WriteString(in, step.line); err != nil {
					t.Fatal(err)
				}
				if answer, err := lines.ReadString('\n'); err != nil || !strings.Contains(answer, step.want) {
					t.Fatalf("answer %.200q, %v", answer, err)
				}
			}
			if got := nonblock(); got != tt.nonblock {
				t.Errorf("O_NONBLOCK %v in the session, want %v", got, tt.nonblock)
			}
			if err := unix.Shutdown(int(in.Fd()), unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("sallyport: %v", err)
			}
			if nonblock() {
				t.Error("O_NONBLOCK after the end")
			}
		})
	}
}
