// Package refusals lets all processes of one user agree on logins at SSH servers, so that a login
// that a server refuses fails once and not once a process.
//
// Servers lock accounts and addresses after a few failures (PerSourcePenalties in sshd_config(5),
// fail2ban). One MCP host may start thirty proxies at once, and start each anew when it ends.
//
// # How processes agree
//
// A way of logging in is named by a key: a hash of the server, the user, the keys that are offered
// and all else that has a part in the outcome. Each key has two files in the directory of the
// Ledger:
//
//   - KEY.lock is locked (flock) by the process that tries. The lock dies with its process.
//   - KEY.json holds the latest outcome. It is replaced as a whole.
//
// A process that wants to log in does so at once if another one succeeded within the last minute.
// Otherwise it waits for the lock. If it finds a refusal when it has the lock, it does not try, and
// returns the refusal. A refusal counts for 1 min, and twice as long after each further one, up to
// 30 min. Where a person could have helped, it counts for 30 s. It counts no more when something is
// offered that has another key, when a login succeeds, and for a command that a person typed.
//
// A login that cannot go on without a person says so at once, and the next one is told. It can then
// look for another way before it connects.
//
// The files hold words of the server and names of keys, and no secret. Where the directory cannot
// be used, each process tries by itself.
package refusals

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

const (
	// acceptedFor is how long a success lets others log in without waiting for the lock.
	acceptedFor = time.Minute
	// minPause and maxPause bound how long a refusal counts. personPause is that of a refusal which
	// a person could have prevented.
	minPause    = time.Minute
	maxPause    = 30 * time.Minute
	personPause = 30 * time.Second
	// poll is the time between two looks at the lock of another process.
	poll = 50 * time.Millisecond
	// keptFor is how long the files of a login are kept that nobody tries.
	keptFor = 24 * time.Hour
	// maxRecord bounds a file, in bytes.
	maxRecord = 64 << 10
)

// Ledger is a directory with the outcomes of logins. Its methods may be called concurrently. A nil
// Ledger lets every login be tried.
type Ledger struct {
	dir string
}

// Open returns the ledger in dir, which it makes if it is not there. The error says why dir cannot
// be used, such as another owner.
func Open(dir string) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	if err := checkOwner(fi); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("%s is no private directory of ours: %w", dir, err)
	}
	l := &Ledger{dir: dir}
	l.removeOld()
	return l, nil
}

// removeOld removes the files of logins that nobody has tried for a day. No login takes that long,
// so nobody has such a lock.
func (l *Ledger) removeOld() {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && fi.Mode().IsRegular() && time.Since(fi.ModTime()) > keptFor {
			os.Remove(filepath.Join(l.dir, e.Name()))
		}
	}
}

// Refusal is a login that a server has refused.
type Refusal struct {
	// At is when.
	At time.Time
	// Until is when the next process may try.
	Until time.Time
	// Cause is what the process that met it has told Refused.
	Cause json.RawMessage
}

// record is what KEY.json holds.
type record struct {
	// Accepted is when the server has last let us in.
	Accepted time.Time `json:"accepted,omitzero"`
	// Refused is when it has last refused us, and Until how long that counts. Both are zero after a
	// success.
	Refused time.Time `json:"refused,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	// Count is how often it has refused us in a row.
	Count int `json:"count,omitempty"`
	// Cause is that of the latest refusal.
	Cause json.RawMessage `json:"cause,omitempty"`
	// Notice is what the server says to the person for whom the process with the lock waits.
	Notice string `json:"notice,omitempty"`
	// Person says that the latest try could not go on without a person.
	Person bool `json:"person,omitempty"`
}

// Try is a login that may be tried. The caller ends it with one of Accepted, Refused and Abandon,
// or several. A nil Try records nothing.
type Try struct {
	ledger *Ledger
	key    string

	// expected says that the try before this one needed a person.
	expected bool

	mu sync.Mutex // guards what follows, and the record while Try has the lock
	// person says that this try has needed a person.
	person bool
	// lock is nil if others have logged in just now, and after the end.
	lock *flock.Flock
}

// Wanted says which login is wanted, and how.
type Wanted struct {
	// Key names the login. It is a part of file names.
	Key string
	// Insist tries a login that was refused. It is for commands that a person typed.
	Insist bool
	// Waits is called when another process tries the same login, and when what the server says to
	// the person there has changed. It may be nil.
	Waits func(notice string)
}

// Begin waits until no other process tries the same login. It returns a Try, or the Refusal that
// another process has met. ctx bounds the call, and its cause is the only error.
func (l *Ledger) Begin(ctx context.Context, w Wanted) (*Try, *Refusal, error) {
	if l == nil {
		return nil, nil, nil
	}
	t := &Try{ledger: l, key: w.Key}
	lock := flock.New(l.path(w.Key, "lock"), flock.SetPermissions(0o600))
	told, notice := false, ""
	for {
		if r := l.read(w.Key); recent(r.Accepted) {
			t.expected = r.Person
			return t, nil, nil
		}
		locked, err := lock.TryLock()
		if err != nil {
			return nil, nil, nil // a file system without locks, or a full disk
		}
		r := l.read(w.Key) // after the lock, or it may be older than the outcome of another
		t.expected = r.Person
		switch {
		case locked && recent(r.Accepted):
			lock.Unlock()
			return t, nil, nil
		case locked && !w.Insist && time.Now().Before(r.Until) && !time.Now().Before(r.Refused):
			lock.Unlock()
			return nil, &Refusal{At: r.Refused, Until: r.Until, Cause: r.Cause}, nil
		case locked:
			t.lock = lock
			now := time.Now()
			os.Chtimes(lock.Path(), now, now) // for removeOld
			if r.Notice != "" {               // of a process that was killed
				t.Say("")
			}
			return t, nil, nil
		}
		if w.Waits != nil && (!told || r.Notice != notice) {
			told, notice = true, r.Notice
			w.Waits(r.Notice)
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// recent reports whether a success at that time lets others log in at once. A time in the future
// is that of a clock which was set.
func recent(at time.Time) bool {
	age := time.Since(at)
	return age >= 0 && age < acceptedFor
}

// Say tells the processes that wait what the server says to the person.
func (t *Try) Say(notice string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lock == nil { // the record is somebody else's now
		return
	}
	r := t.ledger.read(t.key)
	r.Notice = notice
	t.ledger.write(t.key, r)
}

// NeedsPerson notes that the login cannot go on without a person, so that the next try is told
// before it disturbs the server.
func (t *Try) NeedsPerson() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.person = true
	if t.lock == nil { // the record is somebody else's
		return
	}
	if r := t.ledger.read(t.key); !r.Person {
		r.Person = true
		t.ledger.write(t.key, r)
	}
}

// PersonExpected reports whether the try before this one needed a person.
func (t *Try) PersonExpected() bool { return t != nil && t.expected }

// Accepted notes that the server let us in.
func (t *Try) Accepted() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ledger.write(t.key, record{Accepted: time.Now(), Person: t.person})
	t.unlock()
}

// Refused notes that the server refused us. A person could have helped if needsPerson. The cause
// is for the processes that will not try, and must hold no secret.
func (t *Try) Refused(needsPerson bool, cause any) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.ledger.read(t.key)
	now := time.Now()
	text, err := json.Marshal(cause)
	if err != nil {
		text = nil
	}
	pause := min(minPause<<min(r.Count, 10), maxPause)
	r.Count++
	if needsPerson {
		pause, r.Count = personPause, 0
	}
	t.ledger.write(t.key, record{Refused: now, Until: now.Add(pause), Count: r.Count, Cause: text, Person: t.person || needsPerson})
	t.unlock()
}

// Abandon lets another process try. It may be called again.
func (t *Try) Abandon() {
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.unlock()
	}
}

// unlock gives the lock back. The caller holds t.mu.
func (t *Try) unlock() {
	if t.lock != nil {
		t.lock.Unlock()
		t.lock = nil
	}
}

// path returns that of one file of a key.
func (l *Ledger) path(key, ending string) string { return filepath.Join(l.dir, key+"."+ending) }

// read returns the record of a key. It is empty if there is none that can be read.
func (l *Ledger) read(key string) record {
	var r record
	f, err := os.Open(l.path(key, "json"))
	if err != nil {
		return r
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxRecord || checkOwner(fi) != nil {
		return r
	}
	if err := json.NewDecoder(f).Decode(&r); err != nil {
		return record{}
	}
	return r
}

// write replaces the record of a key. If it cannot be written, others may try the same login.
func (l *Ledger) write(key string, r record) {
	text, err := json.Marshal(r)
	if err != nil || len(text) > maxRecord {
		return
	}
	f, err := os.CreateTemp(l.dir, key+".*")
	if err != nil {
		return
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil || os.Rename(f.Name(), l.path(key, "json")) != nil {
		os.Remove(f.Name())
	}
}
