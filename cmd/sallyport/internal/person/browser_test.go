//go:build unix

package person

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
)

// fakePrograms puts programs of these names into PATH, and nothing else but sh. Each writes its
// name, its arguments and two variables to the file that is returned, and exits with its status.
func fakePrograms(t *testing.T, status map[string]string) (record string) {
	t.Helper()
	dir := t.TempDir()
	record = filepath.Join(dir, "record")
	for name, code := range status {
		script := "#!/bin/sh\n{ printf '%s' \"${0##*/}\"; printf ' <%s>' \"$@\"; echo \" $SALLYPORT_LINK $WSLENV\"; } >>" + record + "\nexit " + code + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return record
}

// lines returns the lines of a file that may be missing.
func lines(t *testing.T, path string) []string {
	t.Helper()
	text, _ := os.ReadFile(path)
	return strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' })
}

// plainLink has what a shell or PowerShell may take for its own, but no &, which never leaves.
const plainLink = "http://127.0.0.1:1/start/A?a='$(x)';\"y\""

const plainLinkEscaped = "http://127.0.0.1:1/start/A?a=%27%24%28x%29%27%3B%22y%22"

func TestBrowserOfWSL(t *testing.T) {
	const powershell = "powershell.exe <-NoProfile> <-NonInteractive> <-Command> <Start-Process $env:SALLYPORT_LINK> " +
		plainLinkEscaped + " SALLYPORT_LINK/w:OTHER"
	for _, tt := range []struct {
		name     string
		programs map[string]string
		want     []string
		fails    bool
	}{
		{"wslview", map[string]string{"wslview": "0", "powershell.exe": "0"}, []string{"wslview <" + plainLinkEscaped + ">  OTHER"}, false},
		{"no wslview", map[string]string{"powershell.exe": "0"}, []string{powershell}, false},
		{"wslview fails", map[string]string{"wslview": "1", "powershell.exe": "0"}, []string{"wslview <" + plainLinkEscaped + ">  OTHER", powershell}, false},
		{"both fail", map[string]string{"wslview": "1", "powershell.exe": "1"}, []string{"wslview <" + plainLinkEscaped + ">  OTHER", powershell}, true},
		{"none", nil, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			record := fakePrograms(t, tt.programs)
			t.Setenv("WSLENV", "OTHER")
			env := environment.Fixed(map[string]string{"WSL_DISTRO_NAME": "Debian", "WSLENV": "OTHER"}, "/home/me")
			err := openBrowser(t.Context(), env, "", plainLink)
			if (err != nil) != tt.fails {
				t.Errorf("got %v, want an error: %v", err, tt.fails)
			}
			if got := lines(t, record); !slices.Equal(got, tt.want) {
				t.Errorf("started\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// BROWSER may name several commands, and an editor's helper whose window is closed fails.
func TestBrowserWithSeveralEntries(t *testing.T) {
	for command, want := range map[string][]string{
		"missing:second":              {"second <http://a.example/>  "},
		"first:second":                {"first <http://a.example/>  ", "second <http://a.example/>  "},
		"second:first":                {"second <http://a.example/>  "},
		"second preview --external":   {"second <preview> <--external> <http://a.example/>  "},
		"'second' --url=%s --new:":    {"second <--url=http://a.example/> <--new>  "},
		"missing:first":               {"first <http://a.example/>  "},
		"first 'two words' : missing": {"first <two words> <http://a.example/>  "},
	} {
		record := fakePrograms(t, map[string]string{"first": "1", "second": "0"})
		err := openBrowser(t.Context(), environment.Fixed(nil, "/home/me"), command, "http://a.example/")
		got := lines(t, record)
		if !slices.Equal(got, want) || (err == nil) != strings.HasPrefix(got[len(got)-1], "second") {
			t.Errorf("%s: started %q (%v), want %q", command, got, err, want)
		}
	}
}

// The helper of an editor is used in an SSH session, too. It opens the link on the other machine.
func TestBrowserOfAnEditor(t *testing.T) {
	record := fakePrograms(t, map[string]string{"browser.sh": "0"})
	helpers := filepath.Join(filepath.Dir(record), "helpers")
	if err := os.Mkdir(helpers, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(helpers, "browser.sh")
	if err := os.Rename(filepath.Join(filepath.Dir(record), "browser.sh"), program); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	env := environment.Fixed(map[string]string{"SSH_CONNECTION": "1 2 3 4"}, "/home/me")
	login := Login{Screen: NewScreen(&out, env), Messages: NewMessages(&out, slog.New(slog.DiscardHandler)), Upstream: "https://mcp.example/mcp",
		Browser: program, Env: env}
	login.Offer(context.Background(), oauth.Prompt{AuthorizeURL: "https://as.example/authorize?state=s", RedirectURI: "http://127.0.0.1:53682/callback",
		BrowserURL: "http://127.0.0.1:53682/start/A"}, func(report func(helper.Shown)) { report(helper.Shown{}) })
	if got, want := lines(t, record), []string{"browser.sh <http://127.0.0.1:53682/start/A>  "}; !slices.Equal(got, want) {
		t.Errorf("started %q, want %q", got, want)
	}
	for _, want := range []string{"hint: your editor opens the link where you sit, and forwards port 53682", "type: sallyport login --paste"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%swant %q in it", out.String(), want)
		}
	}
	if strings.Contains(out.String(), "sallyport callback") {
		t.Errorf("the helper makes that needless:\n%s", out.String())
	}
}
