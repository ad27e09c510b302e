//go:build linux

package share

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sallyport/sshtunnel/sshtest/openssh"
)

// Fifty processes that start at once are one login.
func TestFiftyAtOnce(t *testing.T) {
	s := newSite(t)
	clients := s.startUp(50)
	s.checkLogins(1)
	if pids := s.sharePIDs(); len(pids) != 1 {
		t.Errorf("%d shares", len(pids))
	}
	clients[0].echo(t)
	clients[49].echo(t)
	s.checkLogins(1)
}

// steps are all places at which a process that has a part in a start may be stopped or killed.
var steps = []string{"missing", "locked", "numbered", "listening", "detaching", "serving", "launched", "greeted"}

// Whoever is stopped on the way to a share, and comes back later, causes no second login.
func TestStoppedAtEachStep(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			first := s.start(stepVariable + "=" + step)
			file := filepath.Join(s.dir(), "met")
			openssh.Eventually(t, "the stop", func() bool { return isStopped(file) })
			others := s.startUp(3)
			s.checkLogins(1)
			pid, _ := strconv.Atoi(strings.TrimSpace(readText(file)))
			syscall.Kill(pid, syscall.SIGCONT) // its starter may have killed it
			first.awaitUp(t)
			first.echo(t)
			others[2].echo(t)
			openssh.Eventually(t, "the end of all shares but one", func() bool { return len(s.sharePIDs()) == 1 })
			s.checkLogins(1)
		})
	}
}

// Whoever is killed on the way to a share holds nobody up, and there is one login.
func TestKilledAtEachStep(t *testing.T) {
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.start(stepVariable+"="+step, signalVariable+"=1")
			openssh.Eventually(t, "the death", func() bool {
				_, err := os.Stat(filepath.Join(s.dir(), "met"))
				return err == nil
			})
			others := s.startUp(3)
			others[0].echo(t)
			openssh.Eventually(t, "the end of all shares but one", func() bool { return len(s.sharePIDs()) == 1 })
			s.checkLogins(1)
		})
	}
}

// The file of the program is removed, or replaced by another one, while a process of it runs that
// then starts a share, or while a share is being started.
func TestProgramIsReplaced(t *testing.T) {
	for _, step := range []string{"missing", "detaching"} {
		for name, replace := range map[string]func(t *testing.T, path string){
			"removed": func(*testing.T, string) {},
			"replaced": func(t *testing.T, path string) {
				if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(step+" "+name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.program = filepath.Join(s.dir(), "program")
				self, err := os.Executable()
				if err == nil {
					err = os.Link(self, s.program)
				}
				if err != nil {
					t.Fatal(err)
				}
				client := s.start(stepVariable + "=" + step)
				file := filepath.Join(s.dir(), "met")
				openssh.Eventually(t, "the stop", func() bool { return isStopped(file) })
				if err := os.Remove(s.program); err != nil {
					t.Fatal(err)
				}
				replace(t, s.program)
				pid, _ := strconv.Atoi(strings.TrimSpace(readText(file)))
				syscall.Kill(pid, syscall.SIGCONT)
				client.awaitUp(t)
				client.echo(t)
				if pids := s.sharePIDs(); len(pids) != 1 {
					t.Errorf("%d shares", len(pids))
				}
				s.checkLogins(1)
			})
		}
	}
}

// isStopped reports whether the process whose number a file holds is stopped.
func isStopped(file string) bool {
	pid, whole := strings.CutSuffix(readText(file), "\n")
	if !whole {
		return false
	}
	_, state, _ := strings.Cut(readText("/proc/"+pid+"/stat"), ") ")
	return strings.HasPrefix(state, "T")
}

func readText(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}
