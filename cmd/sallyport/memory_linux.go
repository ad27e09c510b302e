package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// dropProgram gives back the pages of the program and its libraries: most were for the start alone. What is needed is mapped again
// when it is used, from the page cache. Only what nobody has written to can be read again, so a mapping counts that cannot be written to
// and holds no page of its own (proc_pid_smaps(5), "Anonymous").
func dropProgram() {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	var low, high uintptr // of a mapping that may go; 0: none
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		switch f := bytes.Fields(lines.Bytes()); {
		case len(f) == 6 && f[5][0] == '/' && len(f[1]) == 4 && f[1][1] == '-': // address perms offset dev inode path
			from, to, _ := bytes.Cut(f[0], []byte{'-'})
			low, high = address(from), address(to)
		case len(f) > 4 && len(f[1]) == 4 && bytes.IndexByte(f[0], '-') > 0:
			low = 0
		case low != 0 && len(f) == 3 && string(f[0]) == "Anonymous:" && string(f[1]) == "0":
			unix.Syscall(unix.SYS_MADVISE, low, high-low, unix.MADV_DONTNEED)
			low = 0
		}
	}
}

// address is a hexadecimal one; 0: it is none.
func address(b []byte) uintptr {
	a, _ := strconv.ParseUint(string(b), 16, 64)
	return uintptr(a)
}
