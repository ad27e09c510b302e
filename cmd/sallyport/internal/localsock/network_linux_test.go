package localsock

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

func TestSameNetwork(t *testing.T) {
	l, path := listenHere(t)
	go echo(l)
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !SameNetwork(conn) {
		t.Error("this process is in another network namespace than itself")
	}
	if os.Getuid() != 0 {
		t.Skip("another network namespace needs root")
	}
	far := filepath.Join(filepath.Dir(path), "far")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", serveVariable, far))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	bufio.NewScanner(out).Scan()
	there, err := Dial(t.Context(), far)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if SameNetwork(there) {
		t.Error("a process in another network namespace counts as one of this")
	}
}
