package subprocess

import (
	"os"
	"os/exec"
	"syscall"
)

// Shell returns a command for Start that runs a line: by the shell with -c, or by cmd.exe if shell
// is empty.
func Shell(shell, line string) *exec.Cmd {
	if shell != "" {
		return Command(shell, "-c", "exec "+line)
	}
	cmd := exec.Command("cmd.exe")
	// cmd.exe parses its line itself, and Go's quoting would spoil it.
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: "cmd.exe /d /s /c \"" + line + "\"", HideWindow: true}
	return cmd
}

func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{HideWindow: true} }

func kill(p *os.Process, ended <-chan struct{}) {
	p.Kill()
	<-ended
}
