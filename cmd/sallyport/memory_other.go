//go:build !linux

package main

// dropProgram does nothing: what the program's pages take is not told, or not ours to say.
func dropProgram() {}
