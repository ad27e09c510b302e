package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
)

const (
	folder    = "shared"
	extension = ".sock"
	// numberLength is that of a number in a name: milliseconds, in base 36, until the year 5188.
	numberLength = 9
)

// Dirs returns the directories of shares, the best one first. They lie in the directories of
// control sockets. The paths of these may be too long, as that of a home directory on macOS, so the
// last one is in the directory of temporary files.
func Dirs(control []string) []string {
	var dirs []string
	for _, dir := range control {
		dirs = append(dirs, filepath.Join(dir, folder))
	}
	if uid := os.Getuid(); uid >= 0 { // not on Windows, where no path is too long
		dirs = append(dirs, filepath.Join(os.TempDir(), fmt.Sprintf("sallyport-%d", uid), folder))
	}
	return dirs
}

// makeDir returns the first directory that can hold the socket of a key, and makes it if it is
// missing. The error is that of the last one: a *localsock.DirError if it is somebody else's.
func makeDir(dirs []string, key string) (string, error) {
	err := errors.New("no directory for it")
	for _, dir := range dirs {
		if length := len(socketPath(dir, key, strings.Repeat("0", numberLength))); length > maxPath {
			err = fmt.Errorf("%s is too long for the path of a socket (%d bytes)", dir, length)
			continue
		}
		if err = os.MkdirAll(dir, 0o700); err != nil {
			continue
		}
		// Whoever owns the directory above could put another one in the place of ours.
		if err = errors.Join(localsock.CheckDir(filepath.Dir(dir)), localsock.CheckDir(dir)); err == nil {
			return dir, nil
		}
	}
	return "", err
}

// socketPath returns the path of the socket with a number.
func socketPath(dir, key, number string) string {
	return filepath.Join(dir, key+"-"+number+extension)
}

// splitPath returns the key and the number in the path of a socket. They are empty if it has none.
func splitPath(path string) (key, number string) {
	name := strings.TrimSuffix(filepath.Base(path), extension)
	key, number, _ = strings.Cut(name, "-")
	if len(key) != keyLength || len(number) != numberLength {
		return "", ""
	}
	return key, number
}

// socketsOf returns the paths of the sockets of a key, the newest first. An empty key stands for
// all.
func socketsOf(dir, key string) ([]string, error) {
	paths, err := localsock.List(dir)
	paths = slices.DeleteFunc(paths, func(path string) bool {
		its, _ := splitPath(path)
		return its == "" || key != "" && its != key
	})
	slices.Reverse(paths) // they were sorted by name
	return paths, err
}

// newest returns the largest number of a socket of the key. It is "" if there is none.
func newest(dir, key string) string {
	paths, _ := socketsOf(dir, key)
	if len(paths) == 0 {
		return ""
	}
	_, number := splitPath(paths[0])
	return number
}

// nextNumber returns a number for a socket that is made now. It is larger than the others.
func nextNumber(others ...string) string {
	next := time.Now().UnixMilli()
	for _, other := range others {
		if n, err := strconv.ParseInt(other, 36, 64); err == nil {
			next = max(next, n+1)
		}
	}
	text := strconv.FormatInt(next, 36)
	return strings.Repeat("0", max(0, numberLength-len(text))) + text
}

// removeOld removes locks that nobody has used for a day. A start takes seconds, so nobody holds
// one.
func removeOld(dir string) {
	const keptFor = 24 * time.Hour
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		fi, err := entry.Info()
		if err == nil && fi.Mode().IsRegular() && filepath.Ext(entry.Name()) != extension && time.Since(fi.ModTime()) > keptFor {
			os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// isGone reports whether the file of a socket is no longer the one that it was.
func isGone(path string, was fs.FileInfo) bool {
	fi, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && was != nil && !os.SameFile(fi, was)
}
