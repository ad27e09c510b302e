//go:build !windows

package subprocess

import (
	"cmp"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Shell returns a command for Start that runs a line as ssh runs a ProxyCommand: by the shell with
// -c, and in place of it. An empty shell means /bin/sh.
func Shell(shell, line string) *exec.Cmd {
	return Command(cmp.Or(shell, "/bin/sh"), "-c", "exec "+line)
}

// ownGroup makes a command lead a process group, so that it can be ended with its children and no
// signal of a terminal reaches it.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithUs(cmd.SysProcAttr)
}

// hangupGrace is the time that a command has to clean up. It is less than the second that an MCP
// host may leave us.
const hangupGrace = 500 * time.Millisecond

// kill hangs up, as ssh does, and then kills what is left of the command and its children.
func kill(p *os.Process, ended <-chan struct{}) {
	syscall.Kill(-p.Pid, syscall.SIGHUP)
	select {
	case <-ended:
	case <-time.After(hangupGrace):
	}
	syscall.Kill(-p.Pid, syscall.SIGKILL) // the group keeps its number as long as a child is in it
	<-ended
}
