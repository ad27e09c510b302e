//go:build linux

package machines

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// testdata is cmd/sallyport/testdata, wherever in this module the test is.
func testdata(t testing.TB, name string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "cmd", "sallyport", "testdata", name)
}

// Peer returns the path of a file of cmd/sallyport/testdata/peers, which holds npm programs and
// scripts around them. All accounts can read it.
func Peer(t testing.TB, path string) string {
	t.Helper()
	dir, err := openPeers(testdata(t, "peers"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, path)
}

// PeerFile is Peer for a file of an npm package. It ends the test, as Need does, if the package is
// not installed.
func PeerFile(t testing.TB, path string) string {
	t.Helper()
	path = filepath.Join("node_modules", path)
	_, err := os.Stat(filepath.Join(testdata(t, "peers"), path))
	Need(t, err == nil, "npm's "+path, "npm ci in cmd/sallyport/testdata/peers, or .ci/install-parts")
	return Peer(t, path)
}

// Node returns the Node.js that the npm programs run on: the pinned one, or the machine's if npm
// has none for this processor.
func Node(t testing.TB) string {
	t.Helper()
	PeerFile(t, "oidc-provider/package.json")
	if path := pinnedNode(Peer(t, "node_modules")); path != "" {
		return path
	}
	return NeedProgram(t, "node", "nodejs")
}

var pinned struct {
	sync.Once
	path string
}

// pinnedNode is the path of npm's Node.js; empty if it does not run here. It does not use
// .bin/node: npm 9, Debian 12's, removes that link together with the package for the other
// processor.
func pinnedNode(modules string) string {
	pinned.Do(func() {
		processor := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
		path := filepath.Join(modules, "node-linux-"+processor, "bin", "node")
		if exec.Command(path, "--version").Run() == nil {
			pinned.path = path
		}
	})
	return pinned.path
}

var openedPeers struct {
	sync.Once
	dir string
	err error
}

// openPeers shows the directory at a path that every account can walk: the checkout may lie in one
// as private as /root. Tests on the real machine have no accounts of their own, and take it as it
// is.
func openPeers(peers string) (string, error) {
	opened := &openedPeers
	opened.Do(func() {
		opened.dir = peers
		if machine.network == nil {
			return
		}
		if opened.dir, opened.err = newOpenDir(); opened.err != nil {
			return
		}
		if opened.err = bindReadOnly(peers, opened.dir); opened.err != nil {
			return
		}
		AfterAll(func() {
			// Never RemoveAll: it would empty the checkout if the directory was still mounted.
			unix.Unmount(opened.dir, unix.MNT_DETACH)
			os.Remove(opened.dir)
		})
	})
	return opened.dir, opened.err
}

func bindReadOnly(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("%s at %s: %w", from, to, err)
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("%s, read only: %w", to, err)
	}
	return nil
}
