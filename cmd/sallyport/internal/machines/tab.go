//go:build linux

package machines

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
)

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
	cmd.Args[1] = Peer(t, "tab.mjs")
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
