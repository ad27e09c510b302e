//go:build linux

package farside_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/farbrowser"
	"sallyport/cmd/sallyport/internal/machines"
)

// window is an installed browser: the system's own program, with what it needs to run as root and
// to trust the tests' certificates.
type window struct {
	name, program, debian string
	flags                 string
	// flushed is the file that has the cookies, a pattern below the profile.
	flushed string
	// scheme is that of the pages: Firefox trusts no certificate of ours.
	scheme string
	// hosts are those of the login.
	hosts []string
	// atOnce is the cookie in a second login at the same time, and profiles how many there are
	// then: Firefox does not join an open window.
	atOnce   string
	profiles int
}

var windows = []window{
	{"Chromium", "chromium", "chromium", "--no-sandbox --disable-gpu --ignore-certificate-errors", "", "https",
		[]string{"idp.internal:443", inner + ":443"}, "ada", 1},
	{"Firefox", "firefox", "firefox-esr", "", "cookies.sqlite*", "http", []string{inner + ":80"}, "none", 2},
}

// farLogin is a login server of the far side: two hosts, of which the first leads to the second and
// that to the callback on loopback.
type farLogin struct {
	// addr is where both hosts are.
	addr string
	// callback is the URL on loopback.
	callback string
	// attacks are URLs that the page has the browser open before it leads on.
	attacks []string
	// came gets the cookie that the browser showed, at each callback.
	came chan string

	mu    sync.Mutex
	asked []string
}

// dial is the far side.
func (f *farLogin) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	f.mu.Lock()
	f.asked = append(f.asked, addr)
	f.mu.Unlock()
	if !strings.HasSuffix(addr, ".internal:80") && !strings.HasSuffix(addr, ".internal:443") {
		return nil, errors.New("the far side does not know " + addr)
	}
	return new(net.Dialer).DialContext(ctx, network, f.addr)
}

// hosts are those that the far side was asked for, each once.
func (f *farLogin) hosts() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(f.asked)))
}

// startFarLogin starts the login server. Its pages are http for Firefox, which trusts no
// certificate of ours.
func startFarLogin(t *testing.T, scheme string) *farLogin {
	t.Helper()
	f := &farLogin{came: make(chan string, 10)}
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/callback" {
			f.came <- r.URL.Query().Get("cookie")
		}
	}))
	t.Cleanup(back.Close)
	f.callback = back.URL + "/callback"
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/authorize":
			http.Redirect(w, r, scheme+"://"+map[string]string{"http": inner, "https": "idp.internal"}[scheme]+"/page", http.StatusFound)
		case r.URL.Path == "/page":
			shown := "none"
			if c, err := r.Cookie("signed-in"); err == nil {
				shown = c.Value
			}
			http.SetCookie(w, &http.Cookie{Name: "signed-in", Value: "ada", MaxAge: 3600, Path: "/"})
			// A page that leads on by itself, as after a click.
			attacks, _ := json.Marshal(f.attacks)
			fmt.Fprintf(w, `<script>
const one = url => new Promise(done => {
  if (url.startsWith("ws")) {
    const socket = new WebSocket(url);
    socket.onopen = socket.onerror = done;
  } else fetch(url, {mode: "no-cors"}).then(done, done);
});
const attacks = Promise.allSettled((%s ?? []).map(one)), enough = new Promise(done => setTimeout(done, 5000));
Promise.race([attacks, enough]).then(() => location = %q);
</script>`, attacks, f.callback+"?cookie="+shown)
		}
	})
	server := httptest.NewUnstartedServer(handler)
	if scheme == "https" {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	f.addr = server.Listener.Addr().String()
	return f
}

// TestInstalledBrowsers opens a login page in a real browser, four times: with a new profile, while
// the window of the first login is open, at the same time as another login, and while a window is
// open that cannot be joined. The callback comes on loopback, the person stays signed in, and the
// far side learns of no host but those of the login.
func TestInstalledBrowsers(t *testing.T) {
	display := machines.StartDisplay(t)
	for _, b := range windows {
		t.Run(b.name, func(t *testing.T) {
			program := machines.NeedProgram(t, b.program, b.debian)
			home, bin := t.TempDir(), machines.OpenDir(t)
			machines.WriteFile(t, bin, b.program, fmt.Sprintf("#!/bin/sh\nPATH=/usr/bin:/bin exec %s %s \"$@\"\n", program, b.flags), 0o755)
			t.Setenv("PATH", bin)
			t.Setenv("HOME", home)
			t.Setenv("DISPLAY", display)
			t.Cleanup(func() {
				// They have left our process group.
				machines.EndWhere(func(arguments string) bool { return strings.Contains(arguments, home) })
			})
			f := startFarLogin(t, b.scheme)
			// open opens the page, and returns the cookie that the browser showed.
			open := func(ctx context.Context) string {
				t.Helper()
				result, err := farbrowser.Open(ctx, farbrowser.Config{
					Link: b.scheme + "://" + inner + "/authorize", Far: f.dial, Key: "default via bastion:22", StateDir: home,
					Env: environment.Fixed(map[string]string{"DISPLAY": display}, home),
					Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
				})
				if err != nil || result.Way != farbrowser.Opened || result.Browser != b.name {
					t.Fatalf("got %+v, %v; want it open in %s", result, err, b.name)
				}
				return machines.Receive(t, f.came, "the callback")
			}
			expect := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: the browser shows the cookie %q, want %q", what, got, want)
				}
			}
			first, end := context.WithCancel(t.Context())
			expect("a new profile", open(first), "none")
			profiles, err := filepath.Glob(filepath.Join(home, "browser", "*", b.program))
			if err != nil || len(profiles) != 1 {
				t.Fatalf("profiles: %q, %v", profiles, err)
			}
			profile := profiles[0]
			end()
			b.awaitCookies(t, profile)
			second, end := context.WithCancel(t.Context())
			expect("with the old window open", open(second), "ada")
			third, endThird := context.WithCancel(t.Context())
			expect("two logins at once", open(third), b.atOnce)
			end()
			endThird()
			// Nobody knows any more where its proxy was: it is closed.
			os.Remove(profile + ".port")
			open(t.Context())
			if got := f.hosts(); !slices.Equal(got, b.hosts) {
				t.Errorf("the far side was asked for %q, want %q", got, b.hosts)
			}
			checkProfiles(t, home, b.profiles)
		})
	}
}

// TestHostilePage opens a login page whose script has the browser connect to names and addresses of
// this machine. The proxy connects to none, and the far side is not asked for them.
func TestHostilePage(t *testing.T) {
	display := machines.StartDisplay(t)
	visited := make(chan string, 100)
	listener := machines.Here.Listen(t, "127.0.0.1:0")
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			first := make([]byte, 1)
			conn.SetReadDeadline(time.Now().Add(machines.Patience))
			n, _ := conn.Read(first)
			conn.Close()
			visited <- fmt.Sprintf("%s %x", conn.RemoteAddr(), first[:n])
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	hosts, err := os.OpenFile("/etc/hosts", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(hosts, "127.0.0.1 rebound.internal workstation.example")
	hosts.Close()
	machines.Poll(t, func() bool {
		_, err := net.LookupHost("workstation.example")
		return err == nil // package net reads the file every five seconds
	}, "a name of this machine")
	f := startFarLogin(t, "https")
	for _, host := range []string{"rebound.internal", "workstation.example"} {
		f.attacks = append(f.attacks, "https://"+host+":"+port+"/", "wss://"+host+":"+port+"/", "https://"+host+"/")
	}
	f.attacks = append(f.attacks, "https://192.0.2.9/")
	program := machines.NeedProgram(t, "chromium", "chromium")
	home, bin := t.TempDir(), machines.OpenDir(t)
	machines.WriteFile(t, bin, "chromium", fmt.Sprintf("#!/bin/sh\nPATH=/usr/bin:/bin exec %s %s \"$@\"\n", program, windows[0].flags), 0o755)
	t.Setenv("PATH", bin)
	t.Setenv("HOME", home)
	t.Setenv("DISPLAY", display)
	t.Cleanup(func() {
		machines.EndWhere(func(arguments string) bool { return strings.Contains(arguments, home) })
	})
	result, err := farbrowser.Open(t.Context(), farbrowser.Config{
		Link: "https://" + inner + "/authorize", Far: f.dial, Key: "hostile", StateDir: home,
		Env: environment.Fixed(map[string]string{"DISPLAY": display}, home),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil || result.Way != farbrowser.Opened {
		t.Fatalf("got %+v, %v", result, err)
	}
	machines.Receive(t, f.came, "the callback after the attacks")
	if got := f.hosts(); !slices.Equal(got, windows[0].hosts) {
		t.Errorf("the far side was asked for %q, want %q", got, windows[0].hosts)
	}
	listener.Close()
	for len(visited) > 0 {
		t.Errorf("this machine was visited: %s", <-visited)
	}
}

// awaitCookies waits until the browser has written its cookies, if it may be closed before that.
func (b *window) awaitCookies(t *testing.T, profile string) {
	t.Helper()
	if b.flushed == "" {
		return
	}
	machines.Poll(t, func() bool {
		files, _ := filepath.Glob(filepath.Join(profile, b.flushed))
		return slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), "signed-in")
		})
	}, "the cookies of "+b.name)
}

// checkProfiles looks at the mode of what lies beside the profiles, and of the profiles themselves.
func checkProfiles(t *testing.T, home string, want int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "browser", "*", "*"))
	if err != nil || len(files) != 4*want { // each with two locks and a port
		t.Errorf("profiles: %q, %v", files, err)
	}
	for _, file := range files {
		if fi, err := os.Stat(file); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v", file, fi.Mode())
		}
	}
}
