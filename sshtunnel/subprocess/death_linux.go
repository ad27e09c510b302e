package subprocess

import "syscall"

// dieWithUs ends a command when this process is killed and cannot end it. The signal is not SIGHUP,
// which everything that runs under nohup ignores. It reaches the command alone. The command's
// children, such as those of ssh's ProxyCommand, notice the end of their input.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
