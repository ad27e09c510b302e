//go:build unix

package localsock

import (
	"os/exec"
	"syscall"
)

// StartDetached starts a command in a session of its own: no signal of our terminal reaches it. It
// remains our child. It does not change what cmd says of stdin, stdout, stderr and the directory.
func StartDetached(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd.Start()
}
