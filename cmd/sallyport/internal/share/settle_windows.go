package share

import "time"

// maxPath is how long the path of the file may be that stands for a pipe. The name of the pipe is
// always short.
const maxPath = 32_000

const (
	// launchPatience is how long the processes may take until the share listens, while this one
	// runs. A virus scanner may look at the program first.
	launchPatience = 10 * time.Second
	// lockPatience is how long the lock of another process is waited for. Windows does not let it
	// be taken away, and no process is stopped there in passing. So whoever has waited in vain
	// dials by itself.
	lockPatience = 20 * time.Second
)

// handsOver says that a socket cannot be handed to a child process.
const handsOver = false

// settleDown has nothing to do on Windows.
func settleDown() {}
