package person

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anmitsu/go-shlex"
)

// hostileLinks are links that a login server may send, and what each leads to.
var hostileLinks = []string{
	"https://as.example/device?code=$(touch pwned)",
	"https://as.example/device?code=$(touch${IFS}pwned)",
	"https://as.example/device?code=`touch pwned`",
	"https://as.example/device?code=a;touch pwned;",
	"https://as.example/device?code=a|touch pwned",
	"https://as.example/device?code=a>pwned",
	"https://as.example/device?code=<(touch pwned)",
	"https://as.example/device?code='$(touch pwned)'",
	"https://as.example/device?code='\"$(touch pwned)\"'",
	"https://as.example/device?code=\";touch pwned;\"",
	"https://as.example/device?code=';touch pwned;'",
	"https://as.example/device?code=a\\;touch\\ pwned",
	"https://as.example/device?code=$HOME${HOME}$$!!",
	"https://as.example/device?code=%24(touch pwned)%60",
	"https://as.example/device?code=100%&x",
	"https://as.example/device?code={a,b}*",
	"https://as.example/device?code=ä€\U0001f600",
	"https://as.example/a b/ü?q=ö#ä (1)",
	"https://b\u00fccher.example/device",
	"https://as.example/device?a=1&touch pwned",
	"https://as.example/device?a=1&touch${IFS}pwned&b=2",
	"https://as.example/device?a=1&&touch pwned",
	"https://[2001:db8::1]:8443/device?code=AB-CD",
	"https://as.example/device?user_code=WDJB-MJHT",
}

// TestLinksInTheHandsOfAShell hands each link to commands that give their arguments to a shell, in
// the ways that people write them.
func TestLinksInTheHandsOfAShell(t *testing.T) {
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no sh")
	}
	for _, command := range []string{
		"sh -c 'echo %s'", "sh -c 'echo \"%s\"'", `sh -c "echo '%s'"`, "sh -c 'eval echo %s'", "sh -c 'sh -c \"echo %s\"'",
		"sh -c 'eval \"echo $1\"' sh", "env LINK=%s sh -c 'eval echo $LINK'", "echo",
	} {
		for _, link := range hostileLinks {
			t.Run(command+" "+link, func(t *testing.T) {
				dir := t.TempDir()
				words, err := shlex.Split(command, true)
				if err != nil {
					t.Fatal(err)
				}
				safe, err := linkForBrowser(t.Context(), link)
				if err != nil {
					t.Fatal(err)
				}
				args := withLink(words, safe)
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				cmd.Dir = dir
				out, err := cmd.Output()
				if got := strings.TrimSuffix(string(out), "\n"); err != nil || got != safe {
					t.Errorf("the shell made %q of %q (%v)", got, safe, err)
				}
				if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
					t.Error("the link ran a command")
				}
				if strings.Trim(safe, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/?#@=+,%[]") != "" {
					t.Errorf("%q has a character that a shell may not take as it is", safe)
				}
			})
		}
	}
}

// TestLinkKeepsItsMeaning compares where the links lead before and after.
func TestLinkKeepsItsMeaning(t *testing.T) {
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, link := range hostileLinks {
		safe, err := linkForBrowser(t.Context(), link)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(link, "&") {
			resp, err := client.Get(safe)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			safe = resp.Header.Get("Location")
		}
		want, err := url.Parse(strings.ReplaceAll(link, "%&", "%25&"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := url.Parse(safe)
		if err != nil || got.Host != want.Host || got.Path != want.Path || got.Fragment != want.Fragment {
			t.Errorf("%q became %q (%v)", link, safe, err)
			continue
		}
		// What url.ParseQuery takes for a separator, such as a semicolon, is only data here.
		wantQuery, err := url.QueryUnescape(strings.ReplaceAll(want.RawQuery, "+", "%2B"))
		if err != nil {
			t.Fatal(err)
		}
		gotQuery, err := url.QueryUnescape(strings.ReplaceAll(got.RawQuery, "+", "%2B"))
		if err != nil || gotQuery != wantQuery || strings.Count(got.RawQuery, "&") != strings.Count(want.RawQuery, "&") {
			t.Errorf("the query of %q became %q (%v)", link, safe, err)
		}
	}
}

func TestLinksThatNoBrowserGets(t *testing.T) {
	for link, want := range map[string]error{
		"":                                 errNotHTTP,
		"javascript:alert(1)":              errNotHTTP,
		"JavaScript://x/%0aalert(1)":       errNotHTTP,
		"file:///etc/passwd":               errNotHTTP,
		"file://host/share":                errNotHTTP,
		"data:text/html,<script>":          errNotHTTP,
		"vbscript://x":                     errNotHTTP,
		"ms-msdt:/id":                      errNotHTTP,
		"smb://evil.example/x":             errNotHTTP,
		"--new-window":                     errNotHTTP,
		"-https://as.example":              errNotHTTP,
		" https://as.example":              errNotHTTP,
		"//as.example/device":              errNotHTTP,
		"https:///device":                  errNotHTTP,
		"https:device":                     errNotHTTP,
		"https://as.example/\x00":          errNotHTTP,
		"https://as.example/\nfile:///x":   errNotHTTP,
		"https://bank.example@evil.test/":  errWithUser,
		"https://bank.example:x@evil.test": errWithUser,
		"HTTPS://AS.example/device":        nil,
		"http://127.0.0.1:8080/start/abc":  nil,
	} {
		got, err := linkForBrowser(t.Context(), link)
		if !errors.Is(err, want) || want == nil && got != link {
			t.Errorf("%q: got %q, %v; want %v", link, got, err, want)
		}
	}
}

// TestOurPageWorksOnce visits the page of a link with an &, and pages that are not it.
func TestOurPageWorksOnce(t *testing.T) {
	const link = "https://as.example/device?a=1&b=2"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	page, err := linkForBrowser(ctx, link)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	visit := func(method, page, host string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, page, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, ""
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Location")
	}
	if status, _ := visit(http.MethodGet, page+"x", ""); status != http.StatusNotFound {
		t.Errorf("another page: status %d", status)
	}
	if status, _ := visit(http.MethodGet, page, "evil.example"); status != http.StatusNotFound {
		t.Errorf("another host: status %d", status)
	}
	if status, _ := visit(http.MethodHead, page, ""); status != http.StatusNotFound {
		t.Errorf("a look ahead: status %d", status)
	}
	if status, to := visit(http.MethodGet, page, ""); status != http.StatusFound || to != link {
		t.Errorf("status %d, to %q", status, to)
	}
	if status, to := visit(http.MethodGet, page, ""); status == http.StatusFound {
		t.Errorf("the second visit leads to %q", to)
	}
	page, err = linkForBrowser(ctx, link)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if status, to := visit(http.MethodGet, page, ""); status == http.StatusFound {
		t.Errorf("after the end it leads to %q", to)
	}
}
