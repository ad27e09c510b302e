package tokenstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	maxFile   = 4 << 20 // bytes of one file
	tempInfix = ".tmp-" // between the file's name and a number
)

// privateDir makes dir if it is not there, and returns its path without symbolic links: a link is
// as good as what it leads to. Others may look into the directory, but neither own nor change it.
func privateDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	return dir, checkOwner(dir, fi, 0o022)
}

// readPrivate reads a file that is ours and that only we can read.
func readPrivate(path string) ([]byte, error) {
	f, err := openNoFollow(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkOwner(path, fi, 0o077); err != nil {
		return nil, err
	}
	tooMuch := fmt.Errorf("%s is not a regular file of at most %d bytes", path, maxFile)
	if !fi.Mode().IsRegular() {
		return nil, tooMuch
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = tooMuch
	}
	return b, err
}

// writeFile replaces path. A reader finds the old content or the new one, also after a crash at any
// instruction. Content and name are on the disk when it returns.
func writeFile(path string, b []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+tempInfix+"*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // PathError names the temporary file
		}
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(dir)
}

// setAside renames path out of the way. The error that it returns is why, and says where the file
// is now.
func setAside(path string, why error) error {
	if err := os.Rename(path, path+badSuffix); err != nil {
		return fmt.Errorf("%s: %w, and it cannot be set aside: %v", path, why, err)
	}
	return fmt.Errorf("%s: %w, it is set aside", path+badSuffix, why)
}
