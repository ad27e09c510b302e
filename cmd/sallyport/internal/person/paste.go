package person

import (
	"bufio"
	"context"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/oauth"
	"sallyport/sshtunnel"

	"golang.org/x/term"
)

// ReadsTerminal reports whether in, the stdin of a command, is a terminal.
func ReadsTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// CanPaste reports whether TypedLines works for a command whose stdin is in.
func CanPaste(in io.Reader) bool { return canLook && ReadsTerminal(in) }

// AskLine asks for one line on the terminal, which shows what is typed. It returns at the end of
// ctx, or with sshtunnel.ErrNoPerson if there is no terminal.
func AskLine(ctx context.Context, prompt string) (string, error) {
	terminal.Lock()
	defer terminal.Unlock()
	return askTerminal(ctx, sshtunnel.Question{Prompt: prompt, Echo: true})
}

// lookEvery is how often the terminal is looked at for a line that nobody has asked for.
const lookEvery = 100 * time.Millisecond

// TypedLines calls each for every line that the person types on the terminal while open returns
// true, until ctx ends. It leaves the terminal to those who ask a question, reads nothing while the
// process is in the background, and returns at once if the system cannot tell whether a line is
// there.
func TypedLines(ctx context.Context, open func() bool, each func(line string)) {
	tty, err := openTerminal()
	if err != nil {
		return
	}
	defer tty.Close()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
		if !open() {
			continue
		}
		line, ok, err := readLine(tty)
		if err != nil {
			return
		}
		if ok && line != "" && ctx.Err() == nil {
			each(line)
		}
	}
}

// readLine returns the line that waits on the terminal, if one does. The error says that no line
// can come.
func readLine(tty *os.File) (line string, ok bool, err error) {
	terminal.Lock()
	defer terminal.Unlock()
	if ok, err = hasLine(int(tty.Fd())); !ok || err != nil {
		return "", false, err
	}
	line, err = bufio.NewReader(io.LimitReader(tty, maxAnswer)).ReadString('\n')
	return strings.TrimSpace(line), true, err
}

// hintPaste says beforehand what to do about a browser that does not find the way back.
func (l Login) hintPaste(p oauth.Prompt) {
	switch {
	case p.RedirectURI == "": // the device grant has no way back
	case l.TakesPaste && l.Screen.live:
		l.Messages.hint("does the browser end at a page that it cannot open? copy the address of that page, paste it here (the terminal does not show it), and press Enter")
	case l.TakesPaste:
		l.Messages.hint("does the browser end at a page that it cannot open? copy the address of that page, paste it here, and press Enter")
	default:
		l.Messages.hint("does the browser end at a page that it cannot open? copy the address of that page, and on this machine type: sallyport login --paste")
	}
}

// isEditors reports whether a browser is the helper of an editor.
func isEditors(env environment.Environment, browser string) bool {
	return strings.Contains(browser, "/helpers/browser") || browser != "" && env.Getenv("CODESPACES") == "true"
}

// hintEditor says what the helper of an editor does (VS Code, Codespaces, Cursor and others), if
// the browser is one: it opens the link on the machine where the editor's window is.
func (l Login) hintEditor(p oauth.Prompt) {
	u, err := url.Parse(p.RedirectURI)
	if !isEditors(l.Env, l.Browser) || err != nil || u.Port() == "" {
		return
	}
	l.Messages.hint("your editor opens the link where you sit, and forwards port %s of this machine to it", u.Port())
	l.hintPaste(p)
}
