//go:build !windows

package sshtunnel

import (
	"os"
	"os/exec"
	"syscall"
	"time"
)

// shellCommand runs a line as ssh does: by $SHELL -c, replacing the shell.
func shellCommand(shell, line string) *exec.Cmd {
	if shell == "" {
		shell = "/bin/sh"
	}
	cmd := exec.Command(shell, "-c", "exec "+line)
	ownGroup(cmd)
	return cmd
}

// ownGroup makes a command lead a process group, so that it can be ended with its children, and no
// signal of a terminal reaches it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
}

// hangupGrace is what a command has to clean up: less than the second that a host may leave us.
const hangupGrace = 500 * time.Millisecond

// killCommand hangs up, as ssh does, and then kills what is left of the command and its children.
func killCommand(p *os.Process, done <-chan struct{}) {
	syscall.Kill(-p.Pid, syscall.SIGHUP)
	select {
	case <-done:
	case <-time.After(hangupGrace):
	}
	syscall.Kill(-p.Pid, syscall.SIGKILL) // the group has its number as long as a child is in it
	<-done
}
