package subprocess

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// relative is a process, with its start time, because the system uses numbers again.
type relative struct {
	pid   int
	birth string
}

// signalFamily returns what sends a signal to a process of ours and to all that it has started. It
// is for a command that has no process group of its own. Children that are started after the first
// signal are not found, nor are those that had lost their parent before.
func signalFamily(pid int, ended <-chan struct{}) func(syscall.Signal) {
	family := relatives(pid)
	return func(s syscall.Signal) {
		select {
		case <-ended: // its number may be another's by now
		default:
			syscall.Kill(pid, s)
		}
		for _, r := range family {
			if _, birth, ok := parentage(r.pid); ok && birth == r.birth {
				syscall.Kill(r.pid, s)
			}
		}
	}
}

// relatives returns the children of a process, their children, and so on.
func relatives(pid int) []relative {
	children := map[int][]relative{}
	dirs, _ := filepath.Glob("/proc/[1-9]*")
	for _, dir := range dirs {
		child, _ := strconv.Atoi(filepath.Base(dir))
		if parent, birth, ok := parentage(child); ok {
			children[parent] = append(children[parent], relative{child, birth})
		}
	}
	all := children[pid]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].pid]...)
	}
	return all
}

// parentage returns the parent and the start time of a process (proc_pid_stat(5), fields 4 and 22).
func parentage(pid int) (parent int, birth string, ok bool) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, "", false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from field 3 on: the name may have blanks
	if len(fields) < 20 {
		return 0, "", false
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return parent, string(fields[19]), err == nil
}
