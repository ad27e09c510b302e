//go:build unix && !linux

package subprocess

import "syscall"

// dieWithUs can do nothing on these systems. A command notices the end of its input.
func dieWithUs(*syscall.SysProcAttr) {}
