package localsock

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/windows"
)

// StartDetached starts a command that goes on when our console and the job that we run in end. It
// does not change what cmd says of stdin, stdout, stderr and the directory. The pipes of StdinPipe
// and its like do not work, because the command may be started twice.
//
// The command gets a console without a window. It could do without any (DETACHED_PROCESS), but then
// each console program that it runs, such as a ProxyCommand, would open a window.
func StartDetached(cmd *exec.Cmd) error {
	const flags = windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW
	again := exec.Cmd{
		Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr,
		SysProcAttr: &syscall.SysProcAttr{CreationFlags: flags},
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: flags | windows.CREATE_BREAKAWAY_FROM_JOB}
	err := cmd.Start()
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) { // the job lets nobody out
		*cmd = again
		err = cmd.Start()
	}
	return err
}
