//go:build unix && !linux

package subprocess

import "syscall"

// signalFamily returns what sends a signal to a process of ours. Its children notice the end of
// their input.
func signalFamily(pid int, ended <-chan struct{}) func(syscall.Signal) {
	return func(s syscall.Signal) {
		select {
		case <-ended: // its number may be another's by now
		default:
			syscall.Kill(pid, s)
		}
	}
}
