package refusals

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, dir string) *Ledger {
	t.Helper()
	l, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// begin must return at once.
func begin(t *testing.T, l *Ledger, w Wanted) (*Try, *Refusal) {
	t.Helper()
	try, met, err := l.Begin(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return try, met
}

// Twenty processes want the same login. The first outcome counts for all.
func TestOneTries(t *testing.T) {
	for _, accepted := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "ledger")
		var wg sync.WaitGroup
		var tries, met, together atomic.Int32
		for range 20 {
			l := open(t, dir) // as another process has
			wg.Go(func() {
				try, refusal, err := l.Begin(t.Context(), Wanted{Key: "k"})
				switch {
				case err != nil:
					t.Error(err)
				case refusal != nil:
					if met.Add(1); string(refusal.Cause) != `"no"` {
						t.Errorf("got %s", refusal.Cause)
					}
				case try.lock == nil:
					together.Add(1)
				case accepted:
					tries.Add(1)
					try.Accepted()
				default:
					tries.Add(1)
					try.Refused(false, "no")
				}
			})
		}
		wg.Wait()
		if accepted && (tries.Load() != 1 || together.Load() != 19) || !accepted && (tries.Load() != 1 || met.Load() != 19) {
			t.Errorf("accepted %v: %d tried first, %d after a success, %d met the refusal", accepted, tries.Load(), together.Load(), met.Load())
		}
	}
}

// The next try is told that a person was needed, until a try has needed nobody.
func TestPersonExpected(t *testing.T) {
	l := open(t, t.TempDir())
	for i, tt := range []struct {
		end      func(*Try)
		expected bool // of the next try
	}{
		{(*Try).Abandon, false},
		{func(try *Try) { try.NeedsPerson(); try.Abandon() }, true},
		{(*Try).Abandon, true},
		{func(try *Try) { try.Refused(false, "no") }, false},
		{func(try *Try) { try.Refused(true, "nobody there") }, true},
		{func(try *Try) { try.NeedsPerson(); try.Accepted() }, true},
		{(*Try).Accepted, false},
		{func(try *Try) { try.NeedsPerson() }, false}, // others have logged in just now, and have the record
	} {
		try, _ := begin(t, l, Wanted{Key: "k", Insist: true})
		tt.end(try)
		if next, _ := begin(t, l, Wanted{Key: "k", Insist: true}); next.PersonExpected() != tt.expected {
			t.Errorf("after step %d: %v, want %v", i, next.PersonExpected(), tt.expected)
		} else {
			next.Abandon()
		}
	}
	var none *Try
	if none.NeedsPerson(); none.PersonExpected() {
		t.Error("no ledger expects anything")
	}
}

func TestWhenARefusalCounts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, dir)
		var pauses []time.Duration
		for range 7 {
			try, met := begin(t, l, Wanted{Key: "k"})
			if met != nil {
				t.Fatalf("met %+v", met)
			}
			try.Refused(false, "no")
			if _, met = begin(t, l, Wanted{Key: "k"}); met == nil {
				t.Fatal("tried at once")
			}
			if other, met := begin(t, l, Wanted{Key: "other"}); met != nil {
				t.Error("another login is refused")
			} else {
				other.Abandon()
			}
			pause := met.Until.Sub(met.At)
			pauses = append(pauses, pause)
			time.Sleep(pause)
		}
		want := []time.Duration{1, 2, 4, 8, 16, 30, 30}
		for i, p := range pauses {
			if p != want[i]*time.Minute {
				t.Errorf("pause %d is %v, want %v min", i, p, want[i])
			}
		}

		try, _ := begin(t, l, Wanted{Key: "k"})
		try.Refused(false, "no")
		try, met := begin(t, l, Wanted{Key: "k", Insist: true})
		if met != nil {
			t.Fatal("a person's command met the refusal")
		}
		try.Accepted()
		if _, met := begin(t, l, Wanted{Key: "k"}); met != nil {
			t.Error("a refusal outlives a success")
		}
		time.Sleep(acceptedFor)
		try, _ = begin(t, l, Wanted{Key: "k"})
		try.Refused(false, "no")
		if _, met := begin(t, l, Wanted{Key: "k"}); met == nil || met.Until.Sub(met.At) != minPause {
			t.Errorf("after a success: %+v", met)
		}
		time.Sleep(minPause)
		try, _ = begin(t, l, Wanted{Key: "k"})
		try.Refused(true, "no")
		if _, met := begin(t, l, Wanted{Key: "k"}); met == nil || met.Until.Sub(met.At) != personPause {
			t.Errorf("where a person could have helped: %+v", met)
		}
	})
}

// The one who waits is told what the server says to the person there, and can leave.
func TestWaiting(t *testing.T) {
	dir := t.TempDir()
	try, _ := begin(t, open(t, dir), Wanted{Key: "k"})
	try.Say("open https://login.example")
	ctx, leave := context.WithCancelCause(t.Context())
	why := errors.New("the host has left")
	var told string
	_, _, err := open(t, dir).Begin(ctx, Wanted{Key: "k", Waits: func(notice string) {
		told = notice
		leave(why)
	}})
	if err != why || told != "open https://login.example" {
		t.Errorf("got %v, told %q", err, told)
	}
	try.Abandon()
	try.Abandon()
	next, met := begin(t, open(t, dir), Wanted{Key: "k"})
	if met != nil || next.lock == nil {
		t.Errorf("after an abandoned try: %+v", met)
	}
	next.Abandon()
}

func TestRecordsThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	future, _ := json.Marshal(record{Refused: time.Now().Add(time.Hour), Until: time.Now().Add(2 * time.Hour)})
	for name, text := range map[string]string{"garbage": "{{", "empty": "", "clock was set": string(future)} {
		path := filepath.Join(dir, "k.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		try, met := begin(t, open(t, dir), Wanted{Key: "k"})
		if met != nil || try == nil {
			t.Errorf("%s: %+v", name, met)
		}
		try.Abandon()
	}
	os.Remove(filepath.Join(dir, "k.json"))
	os.Symlink("/dev/zero", filepath.Join(dir, "k.json"))
	if try, met := begin(t, open(t, dir), Wanted{Key: "k"}); met != nil {
		t.Errorf("a device: %+v", met)
	} else {
		try.Abandon()
	}
}

func TestDirectoriesThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o777)
	if _, err := Open(dir); err == nil {
		t.Error("a directory that others may write is used")
	}
	if os.Geteuid() == 0 {
		foreign := t.TempDir()
		os.Chown(foreign, 12345, 12345)
		if _, err := Open(foreign); err == nil {
			t.Error("a directory of another user is used")
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	if _, err := Open(file); err == nil {
		t.Error("a file is used")
	}
	var none *Ledger
	try, met := begin(t, none, Wanted{Key: "k"})
	try.Say("x")
	try.Refused(false, "no")
	try.Accepted()
	try.Abandon()
	if try != nil || met != nil {
		t.Error("without a ledger every login is tried")
	}
}

func TestOldFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"old.json", "old.lock", "new.json"} {
		path := filepath.Join(dir, name)
		os.WriteFile(path, nil, 0o600)
		if name != "new.json" {
			os.Chtimes(path, time.Now(), time.Now().Add(-2*keptFor))
		}
	}
	open(t, dir)
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "new.json" {
		t.Errorf("left %q", left)
	}
}
