//go:build !linux

package procnet

import "net/netip"

// Holder always answers 0 here: other systems tell only to a program of their own, or to a
// process with more privileges than ours.
func Holder(string) (pid int, command string) { return 0, "" }

// HolderUser always answers "" here, for the same reason.
func HolderUser(string) (uid string) { return "" }

// ConnectedUser always answers that it does not know here, for the same reason.
func ConnectedUser(_, _ netip.AddrPort) (uid string, known bool) { return "", false }
