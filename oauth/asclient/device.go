package asclient

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"strings"
	"time"
	"unicode"
)

const (
	pollInterval    = 5 * time.Second  // where the server names none, and what slow_down adds to it (RFC 8628 section 3.5)
	maxPollInterval = time.Minute      // a server that names more would outlast its own code
	deviceLife      = 10 * time.Minute // of a code, where the server names none
	maxUserCode     = 64               // runes that a person can be asked to type are fewer than these bytes
)

// ErrCodeExpired is beneath the SignInError of a device code that nobody approved in time.
var ErrCodeExpired = errors.New("the device code has expired")

// Device is a pending device authorization (RFC 8628 section 3.2).
type Device struct {
	// Code is the secret that the token is asked for with.
	Code string
	// UserCode is what the person types in at URI.
	UserCode, URI string
	// CompleteURI holds the user code already. It is URI if the server has no such URL.
	CompleteURI string
	// Expires is when the codes expire.
	Expires time.Time
	// Interval is the pause between two requests for the token.
	Interval time.Duration
}

// StartDevice asks for a device code and a user code. Their URLs are https, or http on loopback,
// and safe to print, as the user code is.
func (c *Client) StartDevice(ctx context.Context, s Server, who Credentials, want Wanted) (Device, error) {
	if err := (requester{c}).usable(StageAuthorize, s, s.DeviceEndpoint); err != nil {
		return Device{}, err
	}
	form := make(url.Values)
	want.setOn(form)
	addExtra(form, c.ExtraParams)
	sent := c.now()
	who.ProofKey = nil // the token request has the proof
	q := call{stage: StageAuthorize, endpoint: s.DeviceEndpoint, server: s, who: who, form: form}
	a, err := c.send(ctx, q)
	if err != nil {
		return Device{}, err
	}
	doc, _ := a.grants()
	doc = doc.holding("device_code")
	link := absolute(cmp.Or(doc.link("verification_uri"), doc.link("verification_url")), s.DeviceEndpoint) // the second is Google's
	complete := absolute(cmp.Or(doc.link("verification_uri_complete"), doc.link("verification_url_complete"), link), s.DeviceEndpoint)
	d := Device{Code: doc.text("device_code"), UserCode: doc.text("user_code"),
		Interval: cmp.Or(doc.lifetime("interval"), pollInterval),
		Expires:  sent.Add(cmp.Or(doc.lifetime("expires_in"), deviceLife))}
	if d.Code == "" || d.UserCode == "" {
		return Device{}, q.refusal(a)
	}
	doc.logOdd(c.log(), "the device authorization")
	u, problem := requester{c}.forBrowser(s, link)
	if problem != "" {
		return Device{}, &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeInsecureURL, Refused: true, Cleartext: isCleartext(link),
			Description: "the verification URI " + problem}
	}
	d.URI, d.CompleteURI = u.String(), u.String() // in a form that cannot harm a terminal
	if u, problem = (requester{c}).forBrowser(s, complete); problem == "" {
		d.CompleteURI = u.String()
	}
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(d.UserCode) > maxUserCode || strings.ContainsFunc(d.UserCode, unprintable) {
		return Device{}, &SignInError{Stage: StageAuthorize, Server: s.Name(), Code: CodeBadReply, Refused: true,
			Description: "a user code that nobody can type"}
	}
	return d, nil
}

// ErrStopped is the error of Client.AwaitDevice after stop was closed.
var ErrStopped = errors.New("the device code is not needed any more")

// AwaitDevice asks for the token of d, at the server's pace, until the person has approved it, the
// person or the server said no, or the code has expired. Then ErrCodeExpired is beneath the error.
// A server or a network that fails for a while is asked again, more slowly.
//
// When stop is closed, no other request is made, but one that is under way goes on. Nil never stops
// it.
func (c *Client) AwaitDevice(ctx context.Context, s Server, who Credentials, d Device, stop <-chan struct{}) (Token, error) {
	form := url.Values{"grant_type": {grantTypeDevice}, "device_code": {d.Code}}
	expired := &SignInError{Stage: StageAuthorize, Server: s.Name(), Err: ErrCodeExpired}
	for interval := d.Interval; ; {
		interval = min(interval, maxPollInterval)
		select {
		case <-time.After(interval):
		case <-stop:
			return Token{}, ErrStopped
		case <-ctx.Done():
			return Token{}, context.Cause(ctx)
		}
		k, err := c.token(ctx, StageToken, s, who, form)
		e, ok := errors.AsType[*SignInError](err)
		switch {
		case !ok:
			return k, err
		case e.Code == "authorization_pending":
		case e.Code == "expired_token":
			return Token{}, expired
		case e.Refused && (e.Code != CodeBadReply || e.Status == 0): // not an error page without a code
			return Token{}, err
		default: // slow_down, and a server or a network that fails for a while (RFC 8628 section 3.5)
			interval += pollInterval
		}
		if !c.now().Before(d.Expires) { // and the server does not say it
			return Token{}, expired
		}
	}
}
