package mux

// tellsHangup says that a named pipe does not tell whether its other side only ends one direction.
const tellsHangup = false

func hungUp(uintptr) bool { return false }
