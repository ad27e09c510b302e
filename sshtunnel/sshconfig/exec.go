package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"sallyport/sshtunnel/display"
)

// execTimeout bounds one command of Match exec. OpenSSH waits for ever, and a session would wait
// with it.
const execTimeout = 30 * time.Second

// errExecTimeout ends a command of Match exec. It wraps os.ErrDeadlineExceeded.
var errExecTimeout = fmt.Errorf("it did not end within %v: %w", execTimeout, os.ErrDeadlineExceeded)

// run tells whether a command of Match exec succeeds. Tests put a function in place of the shell.
func (r *Resolver) run(ctx context.Context, command string) (bool, error) {
	if r.system.run != nil {
		return r.system.run(ctx, command)
	}
	return r.runShell(ctx, command)
}

// runShell runs a command by the user's shell and tells whether it succeeded. As with OpenSSH, the
// command gets no input, and nobody sees its output.
func (r *Resolver) runShell(ctx context.Context, command string) (bool, error) {
	shell, flag := r.getenv("SHELL"), "-c"
	if shell == "" {
		shell = "/bin/sh"
		if runtime.GOOS == "windows" {
			shell, flag = "cmd.exe", "/c"
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, execTimeout, errExecTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, flag, command)
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return false, fmt.Errorf("match exec %q: %w", display.Cut(command), context.Cause(ctx))
	}
	// Any exit status but 0 means no. A command that a signal has ended gives no answer, so that is
	// an error.
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("match exec %q: %w", display.Cut(command), err)
	}
	return true, nil
}
