package obstacle

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
	"sallyport/oauth/asclient"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/hostkeys"
)

var (
	lost    = sshtunnel.State{Phase: sshtunnel.Down, Err: &sshtunnel.HopError{Hop: "bastion", Stage: sshtunnel.StageConnect, Err: errors.New("no route")}}
	changed = sshtunnel.State{Phase: sshtunnel.Refused, Err: &hostkeys.Error{Hop: "bastion", Host: "bastion", Changed: true}}
	locked  = sshtunnel.State{Phase: sshtunnel.NeedsPerson, Err: &sshtunnel.AuthError{Hop: "desk", NeedsPerson: true}}
	up      = sshtunnel.State{Phase: sshtunnel.Up}
	waiting = oauth.Prompt{AuthorizeURL: "https://as.example/authorize?state=s3cret", StartURL: "http://127.0.0.1:1/start"}
	device  = oauth.Prompt{AuthorizeURL: "https://as.example/device", UserCode: "ABCD", VerificationURI: "https://as.example/device"}
	beside  = oauth.Prompt{AuthorizeURL: waiting.AuthorizeURL, StartURL: waiting.StartURL, RedirectURI: "http://127.0.0.1:1/callback",
		UserCode: "ABCD-EFGH", VerificationURI: "https://as.example/device"}
	checking = sshtunnel.State{Phase: sshtunnel.Dialing, Hop: "bastion", Err: lost.Err,
		Notice: sshtunnel.Notice{Hop: "bastion", Text: "check in\nat https://login.example/a", URL: "https://login.example/a"}}
	denied    = &asclient.SignInError{Stage: asclient.StageAuthorize, Code: "access_denied", Refused: true}
	slow      = &asclient.SignInError{Stage: asclient.StageAuthorize, Err: oauth.ErrNotCompleted}
	nextPage  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	busyLogin = oauth.State{Prompt: waiting, Busy: true}
)

func TestCurrent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		states States
		kind   string // "" if nothing is in the way
		text   string // part of the text
		url    string
		hint   string // part of the hints
		final  bool
	}{
		{name: "nothing was tried yet", states: States{Tunnel: sshtunnel.State{Phase: sshtunnel.Idle}}},
		{name: "everything is up", states: States{Tunnel: up, Callback: up}},
		{name: "a tunnel is dialed", states: States{Tunnel: sshtunnel.State{Phase: sshtunnel.Dialing, Hop: "bastion"}}},
		{name: "the tunnel is down", states: States{Tunnel: lost}, kind: explain.KindUnreachable, text: "bastion", hint: "ProxyJump"},
		{name: "a server wants a check", states: States{Tunnel: checking}, kind: explain.KindSSHPerson,
			text: "logging in to bastion, which says: check in; at https://login.example/a", url: "https://login.example/a", hint: "open this link in your browser: https://login.example/a"},
		{name: "the host key has changed", states: States{Tunnel: changed}, kind: explain.KindHostKey, text: "has changed", final: true},
		{name: "the tunnel comes before the login", states: States{Tunnel: lost, SignIn: busyLogin}, kind: explain.KindUnreachable},
		{name: "the workstation sleeps and nobody logs in", states: States{Tunnel: up, Callback: locked}},
		{name: "the workstation sleeps during a login", states: States{Tunnel: up, Callback: locked, SignIn: oauth.State{Busy: true}},
			kind: explain.KindSSHPerson, hint: "ssh-add"},
		{name: "a login waits", states: States{SignIn: busyLogin}, kind: explain.KindSignIn, url: waiting.StartURL, hint: waiting.StartURL},
		{name: "a login goes on in the browser of another machine", states: States{SignIn: busyLogin, Elsewhere: "type it there", Callback: lost,
			Lent: helper.Shown{Holding: 1, Hosts: []string{"devbox"}, How: helper.HowConfirm}},
			kind: explain.KindSignIn, url: waiting.StartURL, hint: "go on in the browser of your workstation (where you typed sallyport callback devbox)"},
		{name: "no browser on the other machine", states: States{SignIn: busyLogin, Lent: helper.Shown{Holding: 1, How: helper.HowNowhere}},
			kind: explain.KindSignIn, url: waiting.StartURL, hint: "no browser could be started on your workstation"},
		{name: "the browser is elsewhere, and not lent", states: States{SignIn: busyLogin, Elsewhere: "type it there"},
			kind: explain.KindSignIn, url: waiting.AuthorizeURL, hint: "type it there"},
		{name: "the workstation brings the callback", states: States{SignIn: busyLogin, Elsewhere: "type it there", Callback: up},
			kind: explain.KindSignIn, url: waiting.StartURL, hint: "type it there"},
		{name: "the workstation cannot hold the port", states: States{SignIn: busyLogin, Elsewhere: "type it there", Lent: helper.Shown{Trouble: "port 7 is taken"}},
			kind: explain.KindSignIn, url: waiting.AuthorizeURL, hint: "your workstation says: port 7 is taken"},
		{name: "the workstation is away during a login", states: States{Tunnel: up, Callback: lost, SignIn: busyLogin},
			kind: explain.KindSignIn, url: waiting.StartURL, hint: "the workstation of --callback-via is not reached: hop bastion"},
		{name: "a login with a device waits", states: States{SignIn: oauth.State{Prompt: device, Busy: true}},
			kind: explain.KindSignIn, url: device.AuthorizeURL, hint: "enter the code ABCD"},
		{name: "a login waits with a code beside its link", states: States{SignIn: oauth.State{Prompt: beside, Busy: true}, Elsewhere: "type it there"},
			kind: explain.KindSignIn, url: beside.AuthorizeURL, hint: "open this link in your browser: " + beside.AuthorizeURL +
				"\nor enter the code ABCD-EFGH at https://as.example/device on any device\ntype it there"},
		{name: "a browser was lent after the code was shown", states: States{SignIn: oauth.State{Prompt: beside, Busy: true}, Elsewhere: "type it there",
			Lent: helper.Shown{Holding: 1, How: helper.HowOpened}},
			kind: explain.KindSignIn, url: beside.StartURL, hint: "or open this link there: " + beside.StartURL + "\nor enter the code ABCD-EFGH"},
		{name: "a login waits after one was denied", states: States{SignIn: oauth.State{Prompt: waiting, Busy: true, Err: denied}},
			kind: explain.KindSignIn, url: waiting.StartURL},
		{name: "a login was denied", states: States{SignIn: oauth.State{Err: denied}}},
		{name: "nobody completed the login", states: States{SignIn: oauth.State{Err: slow}}},
		{name: "a login was interrupted", states: States{SignIn: oauth.State{Err: context.Canceled}}},
		{name: "the next page is held back", states: States{SignIn: oauth.State{NextPage: nextPage}},
			kind: explain.KindSignIn, text: "a sign-in is wanted, and another login page was opened shortly before; the next login page opens at 03:04:05", hint: "wait for the link"},
		{name: "the next page is held back after a failure", states: States{SignIn: oauth.State{NextPage: nextPage, LastFailure: denied}},
			kind: explain.KindSignIn, text: "access_denied", hint: "refused by you or by the server"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Current(tt.states, explain.Explainer{})
			if (o == nil) != (tt.kind == "") {
				t.Fatalf("got %+v, want kind %q", o, tt.kind)
			}
			if o == nil {
				return
			}
			if p := tt.states.SignIn.Prompt; o.Code != p.UserCode || p.HasOtherWay() && o.CodeURL != p.VerificationURI || p.IsDevice() && o.CodeURL != "" {
				t.Errorf("the code is %q at %q", o.Code, o.CodeURL)
			}
			hints := strings.Join(o.Hints, "\n")
			if o.Kind != tt.kind || !strings.Contains(o.Text, tt.text) || o.URL != tt.url || !strings.Contains(hints, tt.hint) || (o.Final != nil) != tt.final {
				t.Errorf("got  %+v\nwant %+v", o, tt)
			}
			if tt.url != waiting.AuthorizeURL && strings.Contains(o.URL+o.Text+hints, "s3cret") {
				t.Errorf("%+v shows the login's state", o)
			}
		})
	}
}

// TestWatcherReportsOnce shows which obstacles the person is told of, and that none is told twice.
func TestWatcherReportsOnce(t *testing.T) {
	var reported []string
	w := NewWatcher(Config{Report: func(text string, _ []string) { reported = append(reported, text) }})
	unreachable := errors.New("dial: no route")
	e := w.Explain(unreachable)
	if e.Text != "dial: no route" || e.Final != nil {
		t.Errorf("got %+v", e)
	}
	for range 2 {
		w.Answered(&e)
		if p := w.Problem(); p != &e {
			t.Errorf("the problem is %+v", p)
		}
	}
	w.Answered(nil)
	w.Answered(&e)
	for _, s := range []States{{SignIn: busyLogin}, {Tunnel: changed}, {Tunnel: lost}, {Tunnel: lost}, {Tunnel: up}, {Tunnel: lost}} {
		o := Current(s, explain.Explainer{})
		_, before := w.Obstacle()
		w.set(o)
		select {
		case <-before:
		default:
			t.Error("a change does not close the channel")
		}
		if got, _ := w.Obstacle(); got != o {
			t.Errorf("the obstacle is %+v, want %+v", got, o)
		}
		w.report(o)
	}
	down := explain.Error(lost.Err).Text
	if want := []string{"dial: no route", "dial: no route", down, down}; strings.Join(reported, "\n") != strings.Join(want, "\n") {
		t.Errorf("reported %q, want %q", reported, want)
	}
}
