//go:build !windows

package farbrowser

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// holder returns the process that has a profile open. Both families say so in a symbolic link:
// Chromium's leads to HOSTNAME-PID, Firefox's to ADDRESS:+PID. The link of a browser that was
// killed stays, and its number may be another process's by now. So the process must have the
// profile's directory among its arguments. The result is 0 if there is none.
func holder(dir string, firefox bool) (pid int) {
	name, before := "SingletonLock", "-"
	if firefox {
		name, before = "lock", "+"
	}
	target, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return 0
	}
	pid, err = strconv.Atoi(target[strings.LastIndex(target, before)+1:])
	if err != nil || pid <= 1 || !strings.Contains(arguments(pid), dir) {
		return 0
	}
	return pid
}

// arguments returns the arguments of a process. They are empty if it does not run.
func arguments(pid int) string {
	if runtime.GOOS == "linux" {
		text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		return string(text)
	}
	text, _ := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return string(text)
}

// isOpen reports whether a browser has a profile open.
func isOpen(dir string, firefox bool) bool { return holder(dir, firefox) != 0 }

// askToClose asks the browser that has a profile open to close, and reports whether it could.
func askToClose(dir string, firefox bool) bool {
	pid := holder(dir, firefox)
	return pid == 0 || syscall.Kill(pid, syscall.SIGTERM) == nil
}
