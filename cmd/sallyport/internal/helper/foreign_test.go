//go:build linux

package helper

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The directory of a lent browser that is another user's is named, with what to do. One that is
// ours, or has no socket, or is not there is not.
func TestForeignSocketDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives a directory to another user")
	}
	const uid, gid = 6001, 6002
	for _, tt := range []struct {
		name   string
		owner  int
		socket bool
		want   string
	}{
		{"another user's", uid, true, fmt.Sprintf("docker run --user %d:%d", uid, gid)},
		{"another user's, without a socket", uid, false, ""},
		{"ours", 0, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "browser")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.socket {
				l, err := net.Listen("unix", filepath.Join(dir, "1-A.sock"))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			if err := os.Chown(dir, tt.owner, gid); err != nil {
				t.Fatal(err)
			}
			got := Foreign([]string{filepath.Join(dir, "missing"), dir})
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
