package refusals

import "os"

// checkOwner relies on the user's profile, which is private on Windows.
func checkOwner(os.FileInfo) error { return nil }
