//go:build linux

package machines

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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

// Tab is a tab of a real browser, headless Chromium, in which a test does one step after the other.
type Tab struct {
	stdio *Stdio
	steps int
}

// TabPage is the page that a Tab shows after a step.
type TabPage struct {
	// URL is the whole address, with its query.
	URL string
	// Title and Text are what the person sees.
	Title, Text string
	// History is how many pages the person can go back and forth between.
	History int
	// Value is what a script returned, as JSON.
	Value string
	// Error says why the step failed. It is empty if it did not.
	Error string
}

// StartTab starts a browser in the network ns. It ends with the test.
func StartTab(t testing.TB, ns *Namespace) *Tab {
	t.Helper()
	cmd := Person{NS: ns}.command(t)
	cmd.Args[slices.Index(cmd.Args, Peer(t, "browser.mjs"))] = Peer(t, "tab.mjs")
	return &Tab{stdio: StartStdio(t, cmd)}
}

// Try does a step of tab.mjs, and returns the page that is shown then.
func (tab *Tab) Try(t testing.TB, step map[string]any) TabPage {
	t.Helper()
	line, err := json.Marshal(step)
	if err != nil {
		t.Fatal(err)
	}
	tab.stdio.Send(t, string(line)+"\n")
	tab.steps++
	lines := tab.stdio.Out.Await(t, fmt.Sprintf(`(?s)\A(?:[^\n]*\n){%d}([^\n]*)\n`, tab.steps-1))
	var page TabPage
	if err := json.Unmarshal([]byte(lines[1]), &page); err != nil {
		t.Fatalf("the browser printed %q: %v", lines[1], err)
	}
	return page
}

// Do is Try for a step that must not fail.
func (tab *Tab) Do(t testing.TB, step map[string]any) TabPage {
	t.Helper()
	page := tab.Try(t, step)
	if page.Error != "" {
		t.Fatalf("%v: %s (at %s: %s)", step, page.Error, page.URL, page.Text)
	}
	return page
}

// Goto opens an address.
func (tab *Tab) Goto(t testing.TB, url string) TabPage {
	t.Helper()
	return tab.Do(t, map[string]any{"do": "goto", "url": url})
}

// Click presses a button or a link.
func (tab *Tab) Click(t testing.TB, name string) TabPage {
	t.Helper()
	return tab.Do(t, map[string]any{"do": "click", "name": name})
}

// SignIn signs in and agrees on the pages of oidc-provider.
func (tab *Tab) SignIn(t testing.TB) {
	t.Helper()
	tab.Await(t, "Sign-in")
	tab.Do(t, map[string]any{"do": "fill", "placeholder": "Enter any login", "text": "ada"})
	tab.Do(t, map[string]any{"do": "fill", "placeholder": "and password", "text": "any"})
	tab.Click(t, "Sign-in")
	tab.Click(t, "Continue")
}

// Await waits until the page has a text.
func (tab *Tab) Await(t testing.TB, text string) TabPage {
	t.Helper()
	return tab.Do(t, map[string]any{"do": "await", "text": text})
}

// Eval runs a script in the page.
func (tab *Tab) Eval(t testing.TB, script string) TabPage {
	t.Helper()
	return tab.Try(t, map[string]any{"do": "eval", "script": script})
}

// Keep takes a screenshot in light and one in dark, for a person to look at. See KeepScreenshot.
func (tab *Tab) Keep(t testing.TB, name string) {
	t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		path := filepath.Join(OpenDir(t), scheme+".png")
		tab.Do(t, map[string]any{"do": "dark", "on": scheme == "dark"})
		tab.Do(t, map[string]any{"do": "shot", "path": path})
		KeepScreenshot(t, path, name+"-"+scheme)
	}
	tab.Do(t, map[string]any{"do": "dark", "on": false})
}
