package tokenstore

import "os"

// checkOwner finds no fault. On Windows the state and configuration directories inherit an access
// list from the user's profile, and modes say nothing.
func checkOwner(string, os.FileInfo, os.FileMode) error { return nil }

// openNoFollow is os.Open, because on Windows it takes a privilege to make a symbolic link.
func openNoFollow(path string) (*os.File, error) { return os.Open(path) }

// syncDir does nothing, because Windows cannot flush a directory.
func syncDir(string) error { return nil }
