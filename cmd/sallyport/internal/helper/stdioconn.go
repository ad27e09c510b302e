package helper

import (
	"io"
	"net"
)

// newStdioConn returns a connection on a reader and a writer, with deadlines. Two goroutines carry
// the bytes. They end when the reader and the writer do, which may be the end of the process.
func newStdioConn(in io.Reader, out io.Writer) net.Conn {
	ours, theirs := net.Pipe()
	go func() {
		io.Copy(theirs, in)
		theirs.Close()
	}()
	go func() {
		io.Copy(out, theirs)
		theirs.Close()
		if c, ok := out.(io.Closer); ok {
			c.Close()
		}
	}()
	return ours
}
