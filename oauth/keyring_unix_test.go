//go:build unix && !darwin

package oauth

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/oauth/tokenstore"
)

// silentBus returns the address of a D-Bus that accepts connections and says nothing.
func silentBus(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { // ends with ln
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			go io.Copy(io.Discard, conn)
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return "unix:path=" + path
}

// TestKeyringThatDoesNotAnswer makes a Transport whose token cannot be read yet: neither New nor
// State waits, and a request signs in again once the keyring was given up.
func TestKeyringThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPost(w.transport(nil))
	if err := os.Remove(w.dir + "/config/store.key"); err != nil { // as if it lay in the keyring
		t.Fatal(err)
	}
	ring := tokenstore.Keyring{Use: tokenstore.KeyAuto, Bus: silentBus(t), Wait: time.Second}
	var err error
	if w.store, err = tokenstore.Open(w.dir+"/state", w.dir+"/config", ring, w.logger()); err != nil {
		t.Fatal(err)
	}
	tr := w.transport(nil)
	tr.State()
	if !w.store.Pending(tr.account.key) {
		t.Error("New or State waited for the keyring")
	}
	w.mustPost(tr)
	if got := w.as.Stats().Authorizations; got != 2 {
		t.Errorf("%d sign-ins, want 2", got)
	}
}
