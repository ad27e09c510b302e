package farbrowser

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	// maxProfiles is how many logins of one account may be under way at once.
	maxProfiles = 8
	// lockWait is how long the first profile is waited for: a login that was just withdrawn lets go
	// of it.
	lockWait = 500 * time.Millisecond
	// endWait bounds how long a browser takes to close.
	endWait = 10 * time.Second
)

// errNoProfile says that no profile can be used.
var errNoProfile = errors.New("no browser profile is free")

// profile is a directory for one browser. It is held until Close.
type profile struct {
	dir  string
	lock *flock.Flock
}

// profileName is the name of the directory for a key, which may hold any character.
func profileName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

// takeProfile returns a profile that no other login uses. A browser that is left over from an
// earlier login may have it open. The caller must close the profile.
func takeProfile(ctx context.Context, base string, b browser, key string) (*profile, error) {
	if b.confined != "" {
		base = filepath.Join(b.confined, "sallyport")
	}
	base = filepath.Join(base, "browser", profileName(key))
	for i := range maxProfiles {
		dir := filepath.Join(base, b.id)
		if i > 0 {
			dir += fmt.Sprintf("-%d", i+1)
		}
		// MkdirAll leaves the mode of a directory that exists.
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
			return nil, err
		}
		p := &profile{dir: dir, lock: flock.New(dir+".lock", flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))}
		wait, cancel := context.WithTimeout(ctx, lockWait)
		ok, err := p.lock.TryLockContext(wait, 20*time.Millisecond)
		cancel()
		if ok && (!isOpen(dir, b.firefox) || mayJoin(b) || closeLeftover(ctx, dir, b.firefox)) {
			return p, nil
		}
		p.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
	return nil, errNoProfile
}

// Close lets go of the profile. Its files stay.
func (p *profile) Close() error { return p.lock.Close() }

// mayJoin reports whether an open browser takes a link for the same profile. Firefox may not: it
// finds the open one by D-Bus or the display alone, and asks the person if it does not.
func mayJoin(b browser) bool { return !b.firefox }

// savePort notes the port that the browser of this profile has its proxy at.
func (p *profile) savePort(port int) error {
	return os.WriteFile(p.dir+".port", []byte(strconv.Itoa(port)), 0o600)
}

// loadPort returns the port of savePort. It is 0 if there is none.
func (p *profile) loadPort() int {
	text, err := os.ReadFile(p.dir + ".port")
	if err != nil {
		return 0
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16)
	if err != nil {
		return 0
	}
	return int(port)
}

// closeLeftover closes the browser that has a profile open, and reports whether none has.
func closeLeftover(ctx context.Context, dir string, firefox bool) bool {
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	for asked := false; isOpen(dir, firefox); {
		if !asked {
			if !askToClose(dir, firefox) {
				return false
			}
			asked = true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true
}
