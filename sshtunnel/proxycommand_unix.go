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
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killCommand hangs up, as ssh does, and kills what has not ended a second later.
func killCommand(p *os.Process, done <-chan struct{}) {
	syscall.Kill(-p.Pid, syscall.SIGHUP)
	select {
	case <-done:
	case <-time.After(time.Second):
		syscall.Kill(-p.Pid, syscall.SIGKILL)
		<-done
	}
}
