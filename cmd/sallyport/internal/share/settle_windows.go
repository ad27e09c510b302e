package share

// handsOver says that a socket cannot be handed to a child process.
const handsOver = false

// settleDown has nothing to do on Windows.
func settleDown() {}
