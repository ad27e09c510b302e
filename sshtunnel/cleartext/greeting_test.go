package cleartext

import (
	"io"
	"net"
	"strings"
	"testing"
)

// FuzzGreeting feeds what a server may send first to our reader. It ends, keeps little, and hands
// on exactly what begins with the version.
func FuzzGreeting(f *testing.F) {
	for _, text := range []string{"SSH-2.0-x\r\nabc", "hi\nSSH-1.99-y\nz", "SSH-1.5-x\n", "\n\n", "no end", strings.Repeat("x\n", 2000)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		near, far := net.Pipe()
		go func() { // ends with the pipe
			far.Write(text)
			far.Close()
		}()
		defer near.Close()
		c := &greetingConn{Conn: near}
		got, err := io.ReadAll(c)
		at := -1
		if c.greeted {
			at = len(text) - len(got)
		}
		if at >= 0 && (!strings.HasPrefix(string(got), "SSH-2.") && !strings.HasPrefix(string(got), "SSH-1.99-") || at > 0 && text[at-1] != '\n') {
			t.Errorf("handed on %q of %q", got, text)
		}
		if at < 0 && len(got) > 0 || len(c.said) > keptGreeting {
			t.Errorf("got %q, kept %d, %v", got, len(c.said), err)
		}
	})
}
