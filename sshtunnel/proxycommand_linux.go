package sshtunnel

import "syscall"

// dieWithUs hangs up on a command when this process is killed and cannot. It reaches the command
// alone: its children, as those of ssh's ProxyCommand, have the end of their input to go by.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGHUP }
