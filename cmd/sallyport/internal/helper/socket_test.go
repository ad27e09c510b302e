package helper

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A login looks where a far end of another session has its socket: variables differ between the
// two, and the directory of systemd may be made when the login waits already.
func TestDirsOfAnotherSession(t *testing.T) {
	if os.Getuid() < 0 {
		t.Skip("Windows has one place")
	}
	const state = "/home/ada/.local/state/sallyport"
	farEnd := Dirs([]string{filepath.Join(state, "run")}, state)
	login := Dirs([]string{"/elsewhere/run"}, state)
	if !slices.Contains(login, farEnd[0]) {
		t.Errorf("the socket is in %s, and the login looks in %v", farEnd[0], login)
	}
	if run := fmt.Sprintf("/run/user/%d/sallyport/%s", os.Getuid(), folder); !slices.Contains(login, run) {
		t.Errorf("the login does not look in %s", run)
	}
}

// A socket is put in no place that the system has yet to make.
func TestListenLeavesRunToTheSystem(t *testing.T) {
	run := usualRuntimeDir(os.Getuid())
	if _, err := os.Stat(run); err == nil || os.Getuid() < 0 {
		t.Skip("the system has it")
	}
	l, err := Listen([]string{filepath.Join(run, "sallyport", folder), socketDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := os.Stat(run); err == nil || strings.HasPrefix(l.Path(), run) {
		t.Errorf("the socket is %s", l.Path())
	}
}
