package sshtunnel

import (
	"os"
	"os/exec"
	"syscall"
)

// shellCommand runs a line by cmd.exe, or by SHELL where that is set.
func shellCommand(shell, line string) *exec.Cmd {
	if shell != "" {
		return exec.Command(shell, "-c", "exec "+line)
	}
	cmd := exec.Command("cmd.exe")
	// cmd.exe parses its line itself: Go's quoting would not survive.
	cmd.SysProcAttr = &syscall.SysProcAttr{CmdLine: "cmd.exe /d /s /c \"" + line + "\"", HideWindow: true}
	return cmd
}

func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{HideWindow: true} }

func killCommand(p *os.Process, done <-chan struct{}) {
	p.Kill()
	<-done
}
