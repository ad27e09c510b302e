//go:build !linux

package oauth

// portHolder is not known here: what tells needs a program of the system's or its privileges.
func portHolder(string) (pid int, command string) { return 0, "" }
