package subprocess

// OwnSocket reports false: OpenSSH for Windows has no ControlMaster.
func OwnSocket(path string) bool { return false }
