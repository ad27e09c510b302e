package person

import (
	"errors"

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
