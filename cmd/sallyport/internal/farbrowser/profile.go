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
	// maxProfiles is how many browsers one account may have open of which each is in use by a login
	// and takes no other.
	maxProfiles = 8
	// endWait bounds how long a browser takes to close.
	endWait = 10 * time.Second
	// idleWait bounds the wait for the end of the login that uses a browser.
	idleWait = 500 * time.Millisecond
	// lockPoll is the time between two looks at a lock.
	lockPoll = 50 * time.Millisecond
)

// errInUse says that a browser has the profile open, takes no link, and may not be closed.
var errInUse = errors.New("another login uses its profile")

// profile is a directory for one browser. Beside it lie DIR.port, the number of the port in the PAC
// file of the browser that has it open, and two files that are locked: DIR.lock by the process that
// opens a page, and DIR.use, shared, by each login that is under way.
type profile struct {
	dir  string
	lock *flock.Flock
	use  *flock.Flock
}

// profileName is the name of the directory for a key, which may hold any character.
func profileName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:8])
}

// takeProfile returns the profile of that number, locked: no other process opens a page with it.
// The caller must call unlock, and close it at the end of the login.
func takeProfile(ctx context.Context, base string, b browser, key string, number int) (*profile, error) {
	if b.confined != "" {
		base = filepath.Join(b.confined, "sallyport")
	}
	dir := filepath.Join(base, "browser", profileName(key), b.id)
	if number > 1 {
		dir += fmt.Sprintf("-%d", number)
	}
	// MkdirAll leaves the mode of a directory that exists.
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
		return nil, err
	}
	open := func(name string) *flock.Flock {
		return flock.New(name, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
	}
	p := &profile{dir: dir, lock: open(dir + ".lock"), use: open(dir + ".use")}
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	if _, err := p.lock.TryLockContext(ctx, lockPoll); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// unlock lets the next process open a page with the profile.
func (p *profile) unlock() error { return p.lock.Unlock() }

// hold keeps the browser from being closed until Close. The profile is locked.
func (p *profile) hold() error {
	_, err := p.use.TryRLock()
	return err
}

// isIdle reports whether no login uses the browser. The profile is locked, so none begins. A login
// that was withdrawn at this moment gets some time to let go.
func (p *profile) isIdle(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	if ok, err := p.use.TryLockContext(ctx, lockPoll); !ok || err != nil {
		return false
	}
	return p.use.Unlock() == nil
}

// Close lets go of the profile. Its files stay.
func (p *profile) Close() error { return errors.Join(p.lock.Close(), p.use.Close()) }

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
