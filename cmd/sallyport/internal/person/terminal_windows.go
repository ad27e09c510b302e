package person

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/windows"
)

// terminalPath names the console's input.
const terminalPath = "CONIN$"

// echoOff stops the console from showing what is typed. The caller must call restore. Unlike on
// Unix, what was typed ahead is not discarded.
func echoOff(fd int) (restore func(), err error) {
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(fd), &mode); err != nil {
		return nil, err
	}
	if err := windows.SetConsoleMode(windows.Handle(fd), mode&^windows.ENABLE_ECHO_INPUT); err != nil {
		return nil, err
	}
	return func() { windows.SetConsoleMode(windows.Handle(fd), mode) }, nil
}

// canLook says that hasLine works.
const canLook = false

// hasLine fails: a console tells of each key and each movement of the mouse, and not whether a line
// is there.
func hasLine(int) (bool, error) { return false, errors.ErrUnsupported }

// hideTyping fails: fd is the console's output, which shows what is typed by the mode of its input.
func hideTyping(int) (restore func(), err error) { return nil, errors.ErrUnsupported }

// ownsTerminal reports that this process may change the console, as all of its processes may.
func ownsTerminal(int) bool { return true }

// enableEscapes makes the console take escape sequences. It reports false for one that cannot.
func enableEscapes(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	var mode uint32
	console := windows.Handle(file.Fd())
	if err := windows.GetConsoleMode(console, &mode); err != nil {
		return false
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
