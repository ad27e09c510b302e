package hostio

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const (
	pipeSize  = 64 << 10  // of a new pipe (pipe(7))
	largePipe = 256 << 10 // four parts of which one can be written while another is read; what a user's pipes may hold together is bounded
)

// pipeOut writes to the host, and makes its pipe larger once a message is larger than that: with a
// small one each part of it costs two switches between the processes.
type pipeOut struct {
	*os.File
	large bool
}

// Stdout returns out as the proxy writes to it.
func Stdout(out io.Writer) io.Writer {
	if file, ok := out.(*os.File); ok {
		return &pipeOut{File: file}
	}
	return out
}

func (p *pipeOut) Write(b []byte) (int, error) {
	if len(b) > pipeSize && !p.large {
		p.large = true
		if raw, err := p.SyscallConn(); err == nil {
			raw.Control(func(fd uintptr) {
				if size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil && size < largePipe {
					unix.FcntlInt(fd, unix.F_SETPIPE_SZ, largePipe) // or stays as it is: a socket, or too many pipes
				}
			})
		}
	}
	return p.File.Write(b)
}
