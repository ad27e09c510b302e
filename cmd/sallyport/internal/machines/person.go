//go:build linux

package machines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Person is somebody at a browser, headless Chromium. The zero value signs in and agrees.
type Person struct {
	// As is the account whose desktop it is; nil is the current user's.
	As *Account
	// NS is the network of the desktop. It cannot be set together with As.
	NS *Namespace
	// Denies has the person press Cancel.
	Denies bool
	// TrustsAll has the browser take any TLS certificate.
	TrustsAll bool
	// Flags are more flags for Chromium.
	Flags []string
	// Screenshot names a PNG file for the last page; empty means none.
	Screenshot string
}

// Page is the page that a login ends on.
type Page struct {
	// URL has no query.
	URL   string
	Title string
	Text  string
}

// LogsIn opens an authorization URL, or a page that leads there, signs in, agrees, and returns the
// last page.
func (p Person) LogsIn(t testing.TB, authorizeURL string) Page {
	t.Helper()
	browser := StartProcess(t, p.command(t, authorizeURL))
	if status := browser.Wait(t); status != 0 {
		t.Fatalf("the browser ended with status %d:\n%s", status, browser.Err)
	}
	var page Page
	if err := json.Unmarshal([]byte(browser.Out.String()), &page); err != nil {
		t.Fatalf("the browser printed %q: %v", browser.Out, err)
	}
	return page
}

// BrowserScript writes a program for --browser and BROWSER that is this person: called with an
// authorization URL it signs in. Its last page goes to stderr as a JSON line.
func (p Person) BrowserScript(t testing.TB) string {
	t.Helper()
	cmd := p.command(t)
	var b strings.Builder
	b.WriteString("#!/bin/sh\n")
	for _, entry := range cmd.Env {
		if strings.HasPrefix(entry, "PERSON_") {
			b.WriteString("export '" + entry + "'\n")
		}
	}
	b.WriteString("exec")
	for _, arg := range cmd.Args {
		b.WriteString(" '" + arg + "'")
	}
	b.WriteString(` "$@" >&2` + "\n")
	return WriteFile(t, OpenDir(t), "browser", b.String(), 0o755)
}

// Installed writes a program with the name of an installed browser that is this person: called with
// Chromium's flags and an authorization URL it signs in. It returns the directory of the program,
// for PATH, and a function that waits for the last page.
func (p Person) Installed(t testing.TB, name string) (dir string, last func(testing.TB) Page) {
	t.Helper()
	dir = OpenDir(t)
	file := filepath.Join(dir, "page")
	script := p.BrowserScript(t)
	WriteFile(t, dir, name, "#!/bin/sh\n"+script+` "$@" 2>`+file+".part\nmv "+file+".part "+file+"\n", 0o755)
	return dir, func(t testing.TB) Page {
		t.Helper()
		Poll(t, func() bool { _, err := os.Stat(file); return err == nil }, "the end of the browser "+name)
		text := ReadFile(t, file)
		var page Page
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Fatalf("the browser %s printed %q: %v", name, text, err)
		}
		os.Remove(file)
		return page
	}
}

// StartDisplay starts an X server without a screen, for browsers with real windows. It returns the
// value of DISPLAY. It ends with the test.
func StartDisplay(t testing.TB) string {
	t.Helper()
	path := NeedProgram(t, "Xvfb", "xvfb")
	return ":" + StartProcess(t, exec.Command(path, "-displayfd", "1", "-screen", "0", "1200x900x24", "-nolisten", "tcp")).Out.FirstLine(t)
}

func (p Person) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	NeedProgram(t, "chromium", "chromium")
	cmd := p.As.Command(Node(t), append([]string{Peer(t, "browser.mjs")}, append(p.Flags[:len(p.Flags):len(p.Flags)], args...)...)...)
	if p.As == nil {
		p.NS.Move(t, cmd)
	}
	if p.Denies {
		cmd.Env = append(cmd.Env, "PERSON_DENIES=1")
	}
	if p.TrustsAll {
		cmd.Env = append(cmd.Env, "PERSON_TRUSTS_ALL=1")
	}
	if p.Screenshot != "" {
		cmd.Env = append(cmd.Env, "PERSON_SCREENSHOT="+p.Screenshot)
	}
	return cmd
}

// CountingBrowser wraps a browser program. The new one writes a line "page" to a file at each
// start.
func CountingBrowser(t testing.TB, program string) (script, file string) {
	t.Helper()
	dir := OpenDir(t)
	file = filepath.Join(dir, "pages")
	return WriteFile(t, dir, "counting", fmt.Sprintf("#!/bin/sh\necho page >> %s\nexec %s \"$@\"\n", file, program),
		0o755), file
}

// CheckSuccessPage reads what the person sees after a login at upstream, on the page at
// callbackURL.
func CheckSuccessPage(t testing.TB, page Page, callbackURL, upstream string) {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(upstream, "https://"), "/")
	if page.URL != callbackURL || !strings.Contains(page.Text, "igned in") || !strings.Contains(page.Text, name) {
		t.Errorf("the last page is %+v, want %s with the words \"signed in\" and %s", page, callbackURL, name)
	}
}
