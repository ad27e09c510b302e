package subprocess

import (
	"os/exec"
	"syscall"
)

// Command returns a command for Start that has no window.
func Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{HideWindow: true}
	return cmd
}

// Interactive returns a command for Start that shares the console of this process.
func Interactive(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return cmd
}

// Shell returns a command for Start that runs a line: by the shell with -c, or by cmd.exe if shell
// is empty. The command is made by make, which is Command or Interactive.
func Shell(make func(string, ...string) *exec.Cmd, shell, line string) *exec.Cmd {
	if shell != "" {
		return make(shell, "-c", "exec "+line)
	}
	cmd := make("cmd.exe")
	// cmd.exe parses its line itself, and Go's quoting would spoil it.
	cmd.SysProcAttr.CmdLine = "cmd.exe /d /s /c \"" + line + "\""
	return cmd
}

// Signal returns the name of the signal that ended the command. Windows has none.
func (p *process) Signal() string { return "" }

func kill(cmd *exec.Cmd, ended <-chan struct{}) {
	cmd.Process.Kill()
	<-ended
}
