//go:build !linux

package procnet

// Holder always answers 0 here: other systems tell only to a program of their own, or to a
// process with more privileges than ours.
func Holder(string) (pid int, command string) { return 0, "" }

// HolderUser always answers "" here, for the same reason.
func HolderUser(string) (uid string) { return "" }
