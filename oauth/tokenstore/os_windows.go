package tokenstore

import "os"

// ours finds no fault: on Windows the state and configuration directories inherit an
// access list of their own from the user's profile, and modes say nothing.
func ours(string, os.FileInfo, os.FileMode) error { return nil }

// openNoFollow is os.Open: it takes a privilege to make a symbolic link there.
func openNoFollow(path string) (*os.File, error) { return os.Open(path) }

// syncDir does nothing: Windows has no handle to a directory that can be flushed.
func syncDir(string) error { return nil }
