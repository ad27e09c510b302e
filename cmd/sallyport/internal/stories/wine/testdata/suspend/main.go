//go:build windows

// Command suspend stops or resumes a process of Windows, as a debugger may: suspend|resume PID.
package main

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/windows"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func run(what, number string) error {
	pid, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return err
	}
	process, err := windows.OpenProcess(windows.PROCESS_SUSPEND_RESUME, false, uint32(pid))
	if err != nil {
		return err
	}
	defer windows.CloseHandle(process)
	call := map[string]string{"suspend": "NtSuspendProcess", "resume": "NtResumeProcess"}[what]
	if status, _, _ := windows.NewLazySystemDLL("ntdll.dll").NewProc(call).Call(uintptr(process)); status != 0 {
		return windows.NTStatus(status)
	}
	return nil
}
