//go:build !windows

package subprocess

import (
	"cmp"
	"os/exec"
	"syscall"
	"time"
)

// Command returns a command for Start that has no terminal.
func Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	dieWithUs(cmd.SysProcAttr)
	return cmd
}

// Interactive returns a command for Start that may ask on the terminal of this process, if it has
// one. It must stay in the process group of this process, because a terminal stops what reads it
// from any other.
func Interactive(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithUs(cmd.SysProcAttr)
	return cmd
}

// Shell returns a command for Start that runs a line as ssh runs a ProxyCommand: by the shell with
// -c, and in place of it. An empty shell means /bin/sh. The command is made by make, which is
// Command or Interactive.
func Shell(make func(string, ...string) *exec.Cmd, shell, line string) *exec.Cmd {
	return make(cmp.Or(shell, "/bin/sh"), "-c", "exec "+line)
}

// Signal returns the name of the signal that ended the command. It is empty if the command ended by
// itself.
func (p *process) Signal() string {
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return s.Signal().String()
	}
	return ""
}

// hangupGrace is the time that a command has to clean up. It is less than the second that an MCP
// host may leave us.
const hangupGrace = 500 * time.Millisecond

// kill hangs up, as ssh does, and then kills what is left of the command and its children.
func kill(cmd *exec.Cmd, ended <-chan struct{}) {
	signal := func(s syscall.Signal) { syscall.Kill(-cmd.Process.Pid, s) } // the group keeps its number as long as a child is in it
	if !cmd.SysProcAttr.Setsid {
		signal = signalFamily(cmd.Process.Pid, ended)
	}
	signal(syscall.SIGHUP)
	select {
	case <-ended:
	case <-time.After(hangupGrace):
	}
	signal(syscall.SIGKILL)
	<-ended
}
