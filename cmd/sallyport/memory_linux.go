package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// dropProgram gives back the pages of the program: most were for the start alone. What is needed is mapped again when it is used, from the
// page cache. Only what nobody has written to can be read again, so a mapping counts that cannot be written to and holds no page of its
// own, not even in swap (proc_pid_smaps(5)).
func dropProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	var low, high uintptr // of a mapping that may go; 0: none
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		f := bytes.Fields(lines.Bytes())
		switch {
		case len(f) >= 5 && len(f[1]) == 4 && bytes.IndexByte(f[0], '-') > 0: // address perms offset dev inode path
			low = 0
			if len(f) == 6 && f[1][1] == '-' && string(f[5]) == program {
				from, to, _ := bytes.Cut(f[0], []byte{'-'})
				low, high = address(from), address(to)
			}
		case len(f) == 3 && (string(f[0]) == "Anonymous:" || string(f[0]) == "Swap:") && string(f[1]) != "0":
			low = 0
		case low != 0 && string(f[0]) == "VmFlags:": // the last line of a mapping
			unix.Syscall(unix.SYS_MADVISE, low, high-low, unix.MADV_DONTNEED)
		}
	}
}

// address is a hexadecimal one; 0: it is none.
func address(b []byte) uintptr {
	a, _ := strconv.ParseUint(string(b), 16, 64)
	return uintptr(a)
}
