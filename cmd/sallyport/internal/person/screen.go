package person

import (
	"io"
	"os"
	"strings"
	"sync"

	"sallyport/cmd/sallyport/internal/environment"

	"golang.org/x/term"
)

// Screen is stderr: lines that stay, which pass through [Gate], and on a terminal one live line
// below them, which is drawn again in place. The live line is erased before anything else is
// written, and drawn again after that. The methods may be called concurrently.
type Screen struct {
	// raw is stderr, for our own escape sequences. lines is the gate in front of it.
	raw, lines io.Writer
	// IsTerminal says that a person reads the lines on a terminal.
	IsTerminal bool
	// live says that lines may be drawn again there, and dim that they may be dimmed.
	live, dim bool

	// mu guards what follows, and raw.
	mu sync.Mutex
	// text is the live line. It is empty if there is none.
	text string
	// isDrawn says that the cursor is at the end of text.
	isDrawn bool
	// asking is how many questions are on the terminal. Nothing is drawn meanwhile.
	asking int
	// restore lets the terminal show again what is typed. It is nil if the terminal does so.
	restore func()
}

// NewScreen returns the screen of a process whose stderr is out.
func NewScreen(out io.Writer, env environment.Environment) *Screen {
	s := &Screen{raw: out, lines: Gate(out), IsTerminal: IsTerminal(out)}
	s.live = s.IsTerminal && env.Getenv("TERM") != "dumb" && enableEscapes(out)
	s.dim = s.live && env.Getenv("NO_COLOR") == ""
	return s
}

// Write implements io.Writer for whole lines.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	defer s.draw()
	return s.lines.Write(p)
}

// Show makes text the live line. The empty text takes the line away, and the terminal shows again
// what is typed. Show reports false if this is no terminal on which lines can be drawn again.
func (s *Screen) Show(text string) bool {
	if !s.live {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text = Printable(text); text == s.text {
		return true
	}
	s.text = text
	s.draw()
	return true
}

// ask takes the live line away while a question is on the terminal, until done is called.
func (s *Screen) ask() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking++
	s.draw()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asking--
		s.draw()
	}
}

// draw draws the live line in place of the one before. The caller holds mu.
func (s *Screen) draw() {
	if !s.live || s.text == "" || s.asking > 0 || !s.inForeground() {
		s.erase()
		s.showTyping()
		return
	}
	s.hideTyping()
	text := s.text
	if width, _, err := term.GetSize(int(s.raw.(*os.File).Fd())); err == nil && width > 4 {
		text = cut(text, width-1) // the last column would make some terminals begin a new line
	}
	if s.dim {
		text = "\x1b[2m" + text + "\x1b[0m"
	}
	io.WriteString(s.raw, "\r\x1b[K"+text)
	s.isDrawn = true
}

// erase takes the live line away. After the process went to the background, the line above the
// cursor is the shell's. The caller holds mu.
func (s *Screen) erase() {
	if s.isDrawn && s.inForeground() {
		io.WriteString(s.raw, "\r\x1b[K")
	}
	s.isDrawn = false
}

// hideTyping stops the terminal from showing what is typed, which would tear the live line. A
// pasted callback holds a code, which then stands in no scrollback. The caller holds mu.
func (s *Screen) hideTyping() {
	if s.restore == nil {
		s.restore, _ = hideTyping(int(s.raw.(*os.File).Fd()))
	}
}

// showTyping undoes hideTyping. A process in the background must leave the terminal alone: the
// shell has set it for itself. The caller holds mu.
func (s *Screen) showTyping() {
	if s.restore != nil && s.inForeground() {
		s.restore()
	}
	s.restore = nil
}

// inForeground reports whether this process may change the terminal.
func (s *Screen) inForeground() bool { return ownsTerminal(int(s.raw.(*os.File).Fd())) }

// cut shortens text to a width. A character counts as one column, but those of East Asia and the
// symbols count as two.
func cut(text string, width int) string {
	var b strings.Builder
	for _, r := range text {
		columns := 1
		if r >= 0x1100 {
			columns = 2
		}
		if width -= columns; width < 0 {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
