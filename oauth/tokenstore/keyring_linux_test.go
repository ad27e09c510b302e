package tokenstore

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// keyringWorld is a person's session: a D-Bus of its own, gnome-keyring on it, and a store.
type keyringWorld struct {
	t *testing.T
	// dir is home, and holds the state and the configuration.
	dir string
	// bus is the address of the D-Bus, and busSocket the path of its socket.
	bus, busSocket string
	keyringPID     *os.Process
	log            *slog.Logger
}

// newKeyringWorld starts the bus, which starts nothing by itself.
func newKeyringWorld(t *testing.T) *keyringWorld {
	t.Helper()
	t.Parallel()
	for _, program := range []string{"dbus-daemon", "gnome-keyring-daemon"} {
		if _, err := exec.LookPath(program); err != nil && os.Getenv("CI") == "true" {
			t.Fatal(err)
		} else if err != nil {
			t.Skip(err)
		}
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := &keyringWorld{t: t, dir: filepath.Join(t.TempDir(), "home"), log: log}
	if err := os.Mkdir(w.dir, 0o700); err != nil { // gnome-keyring wants it for itself
		t.Fatal(err)
	}
	w.busSocket = filepath.Join(w.dir, "bus")
	w.bus = "unix:path=" + w.busSocket
	config := filepath.Join(w.dir, "bus.conf")
	const permissive = `<busconfig><type>session</type><listen>unix:path=PATH</listen><policy context="default">
		<allow send_destination="*"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(strings.Replace(permissive, "PATH", w.busSocket, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--print-address", "--config-file="+config)
	first := w.start(cmd, "")
	if !strings.Contains(first, w.busSocket) {
		t.Fatalf("dbus-daemon printed %q", first)
	}
	return w
}

// start runs a program until the test ends, and returns the first line that it prints.
func (w *keyringWorld) start(cmd *exec.Cmd, stdin string) string {
	w.t.Helper()
	cmd.Env = []string{"HOME=" + w.dir, "XDG_RUNTIME_DIR=" + w.dir, "DBUS_SESSION_BUS_ADDRESS=" + w.bus,
		"PATH=" + os.Getenv("PATH")}
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), w.t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	return line
}

// unlock starts gnome-keyring as a login does. lock starts it without the password.
func (w *keyringWorld) unlock() { w.t.Helper(); w.startKeyring("--unlock") }
func (w *keyringWorld) lock()   { w.t.Helper(); w.startKeyring() }

func (w *keyringWorld) startKeyring(args ...string) {
	w.t.Helper()
	w.stopKeyring()
	args = append([]string{"--foreground", "--components=secrets", "--control-directory=" + w.dir}, args...)
	cmd := exec.Command("gnome-keyring-daemon", args...)
	w.start(cmd, "password\n")
	w.keyringPID = cmd.Process
	w.awaitOwner(true)
}

// stopKeyring ends the keyring, as if it was never installed.
func (w *keyringWorld) stopKeyring() {
	if w.keyringPID != nil {
		w.keyringPID.Kill()
		w.keyringPID = nil
		w.awaitOwner(false)
	}
}

// awaitOwner waits for the Secret Service to come or go: the bus tells.
func (w *keyringWorld) awaitOwner(want bool) {
	w.t.Helper()
	conn, err := dbus.Connect(w.bus, dbus.WithContext(w.t.Context()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 100)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, secretsName)); err != nil {
		w.t.Fatal(err)
	}
	for {
		var has bool
		if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, secretsName).Store(&has); err != nil {
			w.t.Fatal(err)
		}
		if has == want {
			return
		}
		select {
		case <-signals:
		case <-time.After(30 * time.Second):
			w.t.Fatal("the keyring does not come or go")
		}
	}
}

// open waits as long as it takes for any keyring but one that never answers.
func (w *keyringWorld) open(use, bus string) (*Store, error) {
	wait := 30 * time.Second
	if strings.HasSuffix(bus, silentName) {
		wait = time.Second
	}
	ring := Keyring{Use: use, Bus: bus, Wait: wait}
	return Open(filepath.Join(w.dir, "state"), filepath.Join(w.dir, "config"), ring, w.log)
}

func (w *keyringWorld) mustOpen(use, bus string) *Store {
	w.t.Helper()
	s, err := w.open(use, bus)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { <-s.keys.ready })
	return s
}

// want opens the store and looks for what was saved under "name".
func (w *keyringWorld) want(use, bus, value string) {
	w.t.Helper()
	b, err := w.mustOpen(use, bus).Load("name")
	if string(b) != value || err != nil {
		w.t.Errorf("got %q, %v, want %q", b, err, value)
	}
}

func (w *keyringWorld) save(use, bus, value string) {
	w.t.Helper()
	if err := w.mustOpen(use, bus).Save("name", []byte(value)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *keyringWorld) wantKeyFile(want bool) {
	w.t.Helper()
	if _, err := os.Stat(filepath.Join(w.dir, "config", keyName)); (err == nil) != want {
		w.t.Errorf("the key's file: %v, want it there: %t", err, want)
	}
}

func TestKeyInKeyring(t *testing.T) {
	w := newKeyringWorld(t)
	w.unlock()
	w.save(KeyAuto, w.bus, "one")
	w.wantKeyFile(false)
	w.want(KeyAuto, w.bus, "one")
	w.want(KeyInKeyring, w.bus, "one")
	w.unlock() // the next login
	w.want(KeyInKeyring, w.bus, "one")
}

func TestFirstStartsAtOnceAgreeOnAKeyInTheKeyring(t *testing.T) {
	w := newKeyringWorld(t)
	w.unlock()
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			s, err := w.open(KeyAuto, w.bus)
			if err == nil {
				err = s.Save(strconv.Itoa(i), []byte("x"))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := w.mustOpen(KeyAuto, w.bus)
	for i := range 10 {
		if b, err := s.Load(strconv.Itoa(i)); string(b) != "x" || err != nil {
			t.Errorf("%d: got %q, %v", i, b, err)
		}
	}
	w.wantKeyFile(false)
}

// The store starts without a keyring, gets one, and is told to leave it again.
func TestKeyMovesToTheKeyringAndBack(t *testing.T) {
	w := newKeyringWorld(t)
	w.save(KeyAuto, w.bus, "one") // a bus without the service
	w.wantKeyFile(true)
	w.unlock()
	s := w.mustOpen(KeyAuto, w.bus)
	<-s.keys.ready
	w.wantKeyFile(false)
	w.want(KeyAuto, w.bus, "one")
	w.want(KeyInFile, w.bus, "one")
	w.wantKeyFile(true)
	w.stopKeyring()
	w.want(KeyInFile, "", "one")
	w.want(KeyAuto, "", "one")
}

// What the last start saved is never lost, and after the first change of places nothing is.
func TestNothingIsLostWhereTheKeyringComesAndGoes(t *testing.T) {
	w := newKeyringWorld(t)
	w.unlock()
	w.save(KeyAuto, w.bus, "desktop")
	s := w.mustOpen(KeyAuto, "") // over ssh, say
	if b, err := s.Load("name"); b != nil || !errors.Is(err, errOtherKey) {
		t.Errorf("without the keyring: got %q, %v, want errOtherKey", b, err)
	}
	w.want(KeyAuto, w.bus, "desktop") // still there
	w.save(KeyAuto, "", "ssh")
	w.want(KeyAuto, w.bus, "ssh")
	w.save(KeyAuto, w.bus, "desktop again")
	w.want(KeyAuto, "", "desktop again")
}

func TestLostKeyringSetsAllAside(t *testing.T) {
	w := newKeyringWorld(t)
	w.unlock()
	w.save(KeyAuto, w.bus, "one")
	w.stopKeyring()
	if err := os.RemoveAll(filepath.Join(w.dir, ".local")); err != nil { // where gnome-keyring keeps its files
		t.Fatal(err)
	}
	w.unlock()
	<-w.mustOpen(KeyAuto, w.bus).keys.ready
	w.want(KeyAuto, w.bus, "")
	bad, err := filepath.Glob(filepath.Join(w.dir, "state", "*"+badSuffix))
	if len(bad) != 1 || err != nil {
		t.Errorf("set aside: %q, %v, want one file", bad, err)
	}
	w.save(KeyAuto, w.bus, "two")
	w.want(KeyAuto, w.bus, "two")
}

func TestRequiredKeyringThatCannotBeUsedIsAnError(t *testing.T) {
	w := newKeyringWorld(t)
	silent := w.silentBus()
	for _, tt := range []struct {
		name, bus string
		prepare   func()
		want      string
	}{
		{"no bus", "", func() {}, "no D-Bus session"},
		{"a bus that is gone", "unix:path=" + w.dir + "/nothing", func() {}, "no such file"},
		{"a bus without the service", w.bus, func() {}, "was not provided"},
		{"a bus that does not answer", silent, func() {}, "no answer in time"},
		{"locked", w.bus, func() { w.unlock(); w.save(KeyAuto, w.bus, "x"); w.lock() }, "locked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.prepare()
			_, err := w.open(KeyInKeyring, tt.bus)
			if _, ok := errors.AsType[*KeyringError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a KeyringError with %q", err, tt.want)
			}
		})
	}
}

const silentName = "silent"

// silentBus is a D-Bus that accepts connections and says nothing.
func (w *keyringWorld) silentBus() string {
	ln, err := net.Listen("unix", filepath.Join(w.dir, silentName))
	if err != nil {
		w.t.Fatal(err)
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
	w.t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return "unix:path=" + filepath.Join(w.dir, silentName)
}

// A keyring that does not answer costs nothing where the key is in a file or nothing is stored, and
// elsewhere its Wait once.
func TestKeyringThatDoesNotAnswerIsWaitedForOnceAtMost(t *testing.T) {
	w := newKeyringWorld(t)
	silent := w.silentBus()
	s := w.mustOpen(KeyAuto, silent)
	if b, err := s.Load("name"); b != nil || err != nil || s.keys.complete() {
		t.Errorf("empty store: got %q, %v, waited for the keyring: %t", b, err, s.keys.complete())
	}
	if err := s.Save("name", []byte("one")); err != nil { // waits: the key may be in the keyring
		t.Fatal(err)
	}
	s = w.mustOpen(KeyAuto, silent)
	b, err := s.Load("name")
	if serr := s.Save("name", []byte("two")); string(b) != "one" || err != nil || serr != nil || s.keys.complete() {
		t.Errorf("key in a file: got %q, %v, %v, waited for the keyring: %t", b, err, serr, s.keys.complete())
	}
}
