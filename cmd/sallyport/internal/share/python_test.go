//go:build linux

package share

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"sallyport/sshtunnel/sshtest/openssh"
)

// The documentation of the protocol suffices to write another client: testdata/client.py was
// written from it, and uses everything that a share can do.
func TestPythonClient(t *testing.T) {
	python := openssh.Tool(t, "python3")
	s := newSite(t)
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() { // ends with echo
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client's direction
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	starter := s.start()
	starter.awaitUp(t)
	sockets, refused := Sockets(s.role.Dirs)
	if len(sockets) != 1 || len(refused) > 0 {
		t.Fatalf("sockets %q, refused %v", sockets, refused)
	}
	starter.end()
	s.awaitNobody(t, sockets[0])

	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "client.py"), sockets[0], echo.Addr().String()).CombinedOutput()
	const want = `before attach: not_attached
greeting: 1.0.0 ['site']
pong: 7
dial: echoed
dial refused: open 0 True
unknown op: unknown_op
listen: hello True
listen: cancelled
exec: 3 oops
status: up 0 1 a client in Python ['elsewhere'] True
draining: True
drained: echoed
`
	if got := string(out); err != nil || got != want {
		t.Errorf("%v\n%swant\n%s", err, got, want)
	}
	s.checkLogins(1)
}

// awaitNobody waits until the share has noticed that no client is attached any more.
func (s *site) awaitNobody(t *testing.T, path string) {
	t.Helper()
	openssh.Eventually(t, "the end of the client", func() bool {
		answers := AskAll(t.Context(), []string{path})
		return len(answers) == 1 && answers[0].Err == nil && answers[0].Status.Attached == 0
	})
}
