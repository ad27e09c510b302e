package tokenstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLockIsTakenByOne(t *testing.T) {
	dir := t.TempDir()
	a, _ := openStore(t, dir)
	b, _ := openStore(t, dir)
	ours, theirs := a.Lock("k"), b.Lock("k")
	if err := ours.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := theirs.Wait(ctx); !errors.Is(err, gone) || theirs.Try() {
		t.Errorf("a taken lock was got: %v", err)
	}
	ours.Unlock()
	if err := theirs.Wait(t.Context()); err != nil || ours.Try() {
		t.Errorf("a free lock was not got, or twice: %v", err)
	}
	theirs.Unlock()
	if !ours.Try() {
		t.Error("a lock that was freed is not free")
	}
	ours.Unlock()
}

func TestLockInMemoryIsFree(t *testing.T) {
	s := Memory(nil)
	a, b := s.Lock("k"), s.Lock("k")
	if !a.Try() || !b.Try() || a.Wait(t.Context()) != nil {
		t.Error("a store without a directory has nobody to wait for")
	}
	a.Unlock()
	b.Unlock()
}

// A directory that cannot be locked is warned about once, and keeps nobody from going on.
func TestDirectoryThatCannotBeLockedIsFree(t *testing.T) {
	dir := t.TempDir()
	s, log := openStore(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "state", fileName("k")+lockSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	l := s.Lock("k")
	if !l.Try() || l.Wait(t.Context()) != nil {
		t.Error("the lock is not free")
	}
	if got := strings.Count(log.String(), notLocked); got != 1 {
		t.Errorf("warned %d times: %s", got, log)
	}
}
