package obstacle

import (
	"testing"
	"time"

	"sallyport/oauth"
	"sallyport/sshtunnel"
)

func TestStages(t *testing.T) {
	begun := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	dialing := func(hop string) sshtunnel.State { return sshtunnel.State{Phase: sshtunnel.Dialing, Hop: hop} }
	shown := func(p oauth.Prompt) oauth.State {
		p.Expires = begun.Add(5*time.Minute - 10*time.Millisecond)
		return oauth.State{Busy: true, Prompt: p}
	}
	elsewhere := waiting
	elsewhere.Elsewhere = true
	g := Stages{Hops: []string{"outer", "inner"}, CallbackHops: []string{"desk"}}
	// Each row follows the one before, as the states of one process do.
	for _, tt := range []struct {
		states States
		after  time.Duration
		want   string
	}{
		{states: States{}, want: ""},
		{states: States{Tunnel: dialing("outer")}, want: "hop 1 of 2: logging in to outer"},
		{states: States{Tunnel: dialing("inner")}, want: "hop 2 of 2: logging in to inner"},
		{states: States{Tunnel: dialing("new")}, want: "logging in to new"}, // ssh_config was edited
		{states: States{Tunnel: up, Callback: dialing("desk")}, want: "workstation: hop 1 of 1: logging in to desk"},
		{states: States{Tunnel: up, SignIn: oauth.State{Busy: true}}, want: "asking the login server how to sign in"},
		{states: States{Tunnel: up, SignIn: shown(waiting)}, want: "waiting for the browser 0:00 of 5:00"},
		{states: States{Tunnel: up, SignIn: shown(waiting)}, after: 42 * time.Second, want: "waiting for the browser 0:42 of 5:00"},
		// The tunnel is lost for a moment.
		{states: States{Tunnel: dialing("inner"), SignIn: shown(waiting)}, after: 43 * time.Second, want: "hop 2 of 2: logging in to inner"},
		// A code comes to the link.
		{states: States{Tunnel: up, SignIn: shown(beside)}, after: 60 * time.Second, want: "waiting for the browser 1:00 of 5:00"},
		{states: States{Tunnel: up, SignIn: shown(waiting)}, after: 61 * time.Second, want: "waiting for the browser 1:01 of 5:00"},
		{states: States{Tunnel: up, SignIn: oauth.State{Busy: true}}, after: 62 * time.Second, want: "exchanging the code for a token"},
		{states: States{Tunnel: up}, want: ""},
		{states: States{Tunnel: up, SignIn: oauth.State{Busy: true, NextPage: nextPage}}, want: "the next login page opens at 03:04:05"},
		{states: States{SignIn: shown(device)}, want: "enter the code ABCD at https://as.example/device, waiting 0:00 of 5:00"},
		{states: States{SignIn: oauth.State{}}, want: ""},
		{states: States{SignIn: shown(elsewhere)}, want: "waiting for the browser, at the page of another process, 0:00 of 5:00"},
		{states: States{SignIn: oauth.State{Busy: true}}, want: "waiting for the sign-in of another process"},
	} {
		if got := g.Now(tt.states, begun.Add(tt.after)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
