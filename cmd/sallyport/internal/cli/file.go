package cli

import (
	"fmt"
	"io"
	"os"
)

// ReadFile reads a file that the settings name. A file of more than max bytes is an error: its
// beginning alone could mean something else, and a device such as /dev/zero never ends.
func ReadFile(path string, max int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(max)+1))
	if err == nil && len(text) > max {
		err = &os.PathError{Op: "read", Path: path, Err: fmt.Errorf("longer than %d KiB", max>>10)}
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}
