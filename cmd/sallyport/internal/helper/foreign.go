package helper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sallyport/cmd/sallyport/internal/localsock"
)

// Foreign says why the sockets of a directory of Dirs are not used, if there are some and they are
// another user's. It is empty if there are none. That is so in a container whose user is not the
// one of HOST: the directory was mounted, and its owner could be anybody, who would be handed the
// logins.
func Foreign(dirs []string) string {
	for _, dir := range dirs {
		e, ok := errors.AsType[*localsock.DirError](localsock.CheckDir(dir))
		if !ok || e.Owner < 0 {
			continue
		}
		sockets, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
		if len(sockets) == 0 && !unreadable(dir) {
			continue
		}
		group := "GID"
		if gid, known := groupOf(dir); known {
			group = fmt.Sprint(gid)
		}
		return fmt.Sprintf("%s belongs to user %d, and this process is user %d, so the browser that is lent there is not used; "+
			"run the container as that user: docker run --user %d:%s", dir, e.Owner, os.Geteuid(), e.Owner, group)
	}
	return ""
}

// unreadable reports whether this user cannot list a directory.
func unreadable(dir string) bool {
	_, err := os.ReadDir(dir)
	return errors.Is(err, os.ErrPermission)
}
