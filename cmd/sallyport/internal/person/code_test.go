package person

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
)

// signIn is the state of a sign-in, which a test changes.
type signIn struct {
	mu      sync.Mutex
	state   oauth.State
	changed chan struct{}
}

func (s *signIn) get() (oauth.State, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

func (s *signIn) show(p oauth.Prompt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Prompt = p
	close(s.changed)
	s.changed = make(chan struct{})
}

// The link and what is known with it are told once. A code that comes later, and one that is of no
// more use, are told when that is so.
func TestCodesOfALink(t *testing.T) {
	link := oauth.Prompt{AuthorizeURL: "https://as.example/authorize", RedirectURI: "http://127.0.0.1:1/callback", Issuer: "https://as.example"}
	with := func(code string) oauth.Prompt {
		p := link
		p.UserCode, p.VerificationURI = code, "https://as.example/device"
		return p
	}
	elsewhere := func(p oauth.Prompt) oauth.Prompt {
		p.Elsewhere = true
		return p
	}
	const command = "hint: is your browser on another machine? there, run: sallyport callback ada@devbox (ada@devbox stands for what you type after ssh to come here)"
	const paste = "hint: does the browser end at a page that it cannot open? copy the address of that page, and on this machine type: sallyport login --paste"
	const first = "sallyport: to sign in to https://mcp.example/mcp, open this link:\n  https://as.example/authorize\n"
	for _, tt := range []struct {
		name    string
		prompts []oauth.Prompt
		want    string
	}{
		{"no code", []oauth.Prompt{link}, first + command + "\n" + paste + "\n"},
		{"with the link", []oauth.Prompt{with("ABCD-EFGH")},
			first + "hint: or enter the code ABCD-EFGH at https://as.example/device on any device\n" + command + "\n" + paste + "\n"},
		{"after the link", []oauth.Prompt{link, link, with("ABCD-EFGH"), with("ABCD-EFGH")},
			first + command + "\n" + paste + "\nhint: or enter the code ABCD-EFGH at https://as.example/device on any device\n"},
		{"and gone", []oauth.Prompt{with("ABCD-EFGH"), link, link, {}},
			first + "hint: or enter the code ABCD-EFGH at https://as.example/device on any device\n" + command + "\n" + paste +
				"\nhint: the code ABCD-EFGH is of no more use; the link is\n"},
		{"of another process", []oauth.Prompt{elsewhere(link), elsewhere(with("ABCD-EFGH"))},
			"sallyport: another process of yours waits for the sign-in to https://mcp.example/mcp, at this link:\n  https://as.example/authorize\n" +
				"hint: or enter the code ABCD-EFGH at https://as.example/device on any device\n"},
		{"of a terminal's own", []oauth.Prompt{with("AB\x1b[2JCD")},
			first + "hint: or enter the code AB [2JCD at https://as.example/device on any device\n" + command + "\n" + paste + "\n"},
		{"after the login", []oauth.Prompt{link, {}}, first + command + "\n" + paste + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Without an address no name is looked up, which a bubble would not allow.
				env := environment.Fixed(map[string]string{"SSH_CONNECTION": "unknown"}, "/home/ada")
				env.User, env.Hostname = "ada", "devbox"
				var out strings.Builder
				s := &signIn{changed: make(chan struct{})}
				l := Login{Messages: NewMessages(&out, slog.New(slog.DiscardHandler)), Env: env, Upstream: "https://mcp.example/mcp", Screen: new(Screen), State: s.get}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s.show(tt.prompts[0])
				var shown sync.WaitGroup
				shown.Go(func() { // ends with ctx
					l.Offer(ctx, tt.prompts[0], func(report func(helper.Shown)) { report(helper.Shown{}) })
				})
				for _, p := range tt.prompts[1:] {
					synctest.Wait()
					s.show(p)
				}
				synctest.Wait()
				cancel()
				shown.Wait()
				if out.String() != tt.want {
					t.Errorf("got\n%s\nwant\n%s", &out, tt.want)
				}
			})
		})
	}
}
