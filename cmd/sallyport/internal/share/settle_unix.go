//go:build unix

package share

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// maxPath is how long the path of a socket may be in bytes, on the strictest system (macOS).
const maxPath = 103

const (
	// launchPatience is how long the first process may take, while this one runs.
	launchPatience = 3 * time.Second
	// lockPatience is how long the lock of another process is waited for. A start takes a tenth of
	// a second, and some seconds if fifty processes start at once.
	lockPatience = 5 * time.Second
)

// handsOver says that a socket can be handed to a child process.
const handsOver = true

// settleDown prepares this process for a life without terminal: the end of one is no signal to end,
// and files that it makes are for this user alone. signal.Ignore would not do, because child
// processes inherit it.
func settleDown() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	syscall.Umask(0o077)
}
