package cleartext

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"sallyport/sshtunnel/display"
)

const (
	// maxGreetingLines and maxGreetingLine bound what a server may send before its version, in
	// lines and in bytes of a line. They are those of ssh. x/crypto takes shorter lines only.
	maxGreetingLines = 1024
	maxGreetingLine  = 8192
	// keptGreeting is how much of that text is kept for an error, in bytes.
	keptGreeting = 1024
)

// IdentificationError says that the peer did not identify itself as a server of SSH version 2.
type IdentificationError struct {
	// Version is the line that begins with SSH-, printable and cut to a limit. It is empty if none
	// came.
	Version string `json:"version,omitempty"`
	// Said is the text that came in its place, printable and cut to a limit. sshd says there why it
	// lets nobody in, as when MaxStartups is reached.
	Said string `json:"said,omitempty"`
	// Ended says that the peer closed the connection. If it is false, it sent too much text, or
	// another version.
	Ended bool `json:"ended,omitempty"`
}

// Error quotes what came.
func (e *IdentificationError) Error() string {
	switch {
	case e.Version != "":
		return fmt.Sprintf("the server does not speak version 2 of SSH: %q", e.Version)
	case e.Ended:
		return fmt.Sprintf("the server closed the connection and said %q", e.Said)
	}
	return fmt.Sprintf("not an SSH server: it said %q", e.Said)
}

// greetingConn leaves out the lines that a server may send before its version (RFC 4253 section
// 4.2). Read must not be called concurrently.
type greetingConn struct {
	net.Conn
	// text is what has come and is not handed on yet.
	text []byte
	// lines counts the lines before the version. said is the beginning of them.
	lines int
	said  []byte
	// greeted is set when the version has come.
	greeted bool
	// failed is the error of all further calls.
	failed error
}

// Read implements net.Conn.
func (c *greetingConn) Read(p []byte) (int, error) {
	for !c.greeted && c.failed == nil {
		c.failed = c.greet()
	}
	if c.failed != nil {
		return 0, c.failed
	}
	if len(c.text) > 0 {
		n := copy(p, c.text)
		if c.text = c.text[n:]; len(c.text) == 0 {
			c.text = nil
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// greet reads until the next line is complete, and takes it.
func (c *greetingConn) greet() error {
	line, rest, ok := bytes.Cut(c.text, []byte("\n"))
	switch {
	case len(line) > maxGreetingLine:
		c.keep(line)
		return c.error(false)
	case !ok:
		buf := make([]byte, 4<<10)
		n, err := c.Conn.Read(buf)
		c.text = append(c.text, buf[:n]...)
		if n > 0 {
			return nil
		}
		if err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
			if c.keep(c.text); len(bytes.TrimSpace(c.said)) > 0 {
				return c.error(true)
			}
		}
		return err
	case bytes.HasPrefix(line, []byte("SSH-")):
		if !bytes.HasPrefix(line, []byte("SSH-2.")) && !bytes.HasPrefix(line, []byte("SSH-1.99-")) {
			return &IdentificationError{Version: printable(line)}
		}
		c.greeted = true // text begins with the version
		return nil
	}
	c.keep(line)
	c.text = rest
	if c.lines++; c.lines >= maxGreetingLines {
		return c.error(false)
	}
	return nil
}

// keep notes a line for an error.
func (c *greetingConn) keep(line []byte) {
	c.said = append(append(c.said, line...), '\n')
	c.said = c.said[:min(len(c.said), keptGreeting)]
}

func (c *greetingConn) error(ended bool) error {
	return &IdentificationError{Said: printable(c.said), Ended: ended}
}

// printable returns a text of a peer for an error.
func printable(text []byte) string {
	return display.Cut(strings.TrimSpace(display.Printable(strings.ToValidUTF8(string(text), "?"))))
}
