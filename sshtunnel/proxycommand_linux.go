package sshtunnel

import "syscall"

// dieWithUs ends a command when this process is killed and cannot. Not by SIGHUP, which whatever
// runs under nohup ignores. It reaches the command alone: its children, as those of ssh's
// ProxyCommand, have the end of their input to go by.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
