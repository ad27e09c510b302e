//go:build unix

package share

import (
	"os"
	"os/signal"
	"syscall"
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
