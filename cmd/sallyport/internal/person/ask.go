package person

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/sshtunnel"

	"golang.org/x/term"
)

// Asker puts the questions of tunnels to the person.
type Asker struct {
	// env gives the variables of SSH_ASKPASS.
	env environment.Environment
	// screen is what may show a live line on the terminal.
	screen *Screen
	// atTerminal says that the terminal may be opened.
	atTerminal bool
}

// terminal is locked while a question waits for its answer, or a line is read. A process has one
// person and one terminal.
var terminal sync.Mutex

// NewAsker returns an asker. The argument atTerminal says that the person typed the command. The
// proxy must not open the terminal, which may be its MCP host's own.
func NewAsker(env environment.Environment, screen *Screen, atTerminal bool) *Asker {
	return &Asker{env: env, screen: screen, atTerminal: atTerminal}
}

// Ask returns the person's answer. It returns sshtunnel.ErrNoPerson if nobody can be asked. It may
// be called concurrently: two hops or two tunnels never ask at the same time.
func (a *Asker) Ask(ctx context.Context, q sshtunnel.Question) (string, error) {
	terminal.Lock()
	defer terminal.Unlock()
	require := a.env.Getenv("SSH_ASKPASS_REQUIRE")
	// By ssh(1), force and prefer put the program of SSH_ASKPASS before the terminal.
	if a.atTerminal && require != "force" && (require != "prefer" || !a.hasAskpass()) {
		done := a.screen.ask()
		answer, err := askTerminal(ctx, q)
		done()
		if !errors.Is(err, sshtunnel.ErrNoPerson) {
			return answer, err
		}
	}
	if a.hasAskpass() {
		return a.runAskpass(ctx, q)
	}
	return "", sshtunnel.ErrNoPerson
}

// hasAskpass reports whether the program of SSH_ASKPASS may be started. By ssh(1) it needs a
// display, or SSH_ASKPASS_REQUIRE=force.
func (a *Asker) hasAskpass() bool {
	require := a.env.Getenv("SSH_ASKPASS_REQUIRE")
	display := a.env.Getenv("DISPLAY") != "" || a.env.Getenv("WAYLAND_DISPLAY") != ""
	if require == "never" || a.env.Getenv("SSH_ASKPASS") == "" {
		return false
	}
	return display || require == "force"
}

const maxAnswer = 4096 // bytes of a passphrase or password

// runAskpass starts the program of SSH_ASKPASS with the question as its argument, and reads one
// line.
func (a *Asker) runAskpass(ctx context.Context, q sshtunnel.Question) (string, error) {
	cmd := exec.CommandContext(ctx, a.env.Getenv("SSH_ASKPASS"), Lines(q.Prompt))
	// A child of the program may keep its stdout open. Output must not wait for that.
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		// As ssh reads it, the person closed the window.
		return "", fmt.Errorf("SSH_ASKPASS program: %w", errors.Join(sshtunnel.ErrNoPerson, err))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if len(line) > maxAnswer {
		return "", fmt.Errorf("SSH_ASKPASS program: answer longer than %d bytes", maxAnswer)
	}
	return strings.TrimSuffix(line, "\r"), nil
}

// askTerminal asks on the controlling terminal, as ssh does, so that stdin and stdout stay free. It
// returns at the end of ctx, or with ErrNoPerson if there is no terminal.
func askTerminal(ctx context.Context, q sshtunnel.Question) (string, error) {
	tty, err := openTerminal()
	if err != nil {
		return "", sshtunnel.ErrNoPerson
	}
	// The echo goes off before the question invites the person to type.
	restore := func() {}
	if !q.Echo {
		if restore, err = echoOff(int(tty.Fd())); err != nil {
			tty.Close()
			return "", sshtunnel.ErrNoPerson
		}
	}
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	fmt.Fprint(tty, Lines(q.Prompt))
	// A read of a terminal cannot be interrupted, so a cancellation leaves this goroutine behind.
	go func() { // ends with a line, or with the process
		defer tty.Close()
		line, err := bufio.NewReader(io.LimitReader(tty, maxAnswer)).ReadString('\n')
		restore()
		if !q.Echo || err != nil {
			fmt.Fprintln(tty) // the person's own newline was not shown
		}
		done <- answer{strings.TrimRight(line, "\r\n"), err}
	}()
	select {
	case got := <-done:
		// Ctrl-D on an empty line ends the input: the person does not answer.
		if errors.Is(got.err, io.EOF) {
			return "", sshtunnel.ErrNoPerson
		}
		return got.text, got.err
	case <-ctx.Done():
		restore()
		fmt.Fprintln(tty)
		return "", context.Cause(ctx)
	}
}

// openTerminal opens the terminal in which the command was typed. The caller must close it.
func openTerminal() (*os.File, error) {
	tty, err := os.OpenFile(terminalPath, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if !term.IsTerminal(int(tty.Fd())) {
		tty.Close()
		return nil, errors.New("not a terminal")
	}
	return tty, nil
}

// IsTerminal reports whether a writer is a terminal.
func IsTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
