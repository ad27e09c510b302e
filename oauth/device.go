package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
)

const (
	pollInterval = 5 * time.Second  // RFC 8628 section 3.2, where the server names none; and by how much slow_down adds to it
	maxInterval  = time.Minute      // a server that names more would outlast its own code
	deviceLife   = 10 * time.Minute // of a code, where the server names none
	maxUserCode  = 64
)

// byDevice reports whether to log in by the device grant: as configured, else only at a
// server that has no authorization endpoint.
func (t *Transport) byDevice(s server) bool {
	return t.cfg.Grant == GrantDeviceCode || t.cfg.Grant == GrantAuto && s.AuthorizationEndpoint == "" && s.DeviceEndpoint != ""
}

// deviceLogin is RFC 8628: the person approves on any device what we then poll for. A
// code that expired is followed by a new one as long as somebody waits for the token.
func (t *Transport) deviceLogin(ctx context.Context, fl *flight, l *leadership, f finding) error {
	if f.server.DeviceEndpoint == "" {
		return &DiscoveryError{What: "device authorization endpoint in the metadata of " + f.server.name(), Tried: f.tried}
	}
	for {
		if err := l.awaitPage(ctx, f.server.name()); err != nil {
			return err
		}
		c, err := t.clientAt(ctx, fl.need, f, "")
		if err != nil {
			return err
		}
		asked := t.scopes(f, fl.need, true)
		d, err := t.deviceCode(ctx, fl, f, c, asked)
		if err != nil {
			return err
		}
		k, err := t.poll(ctx, l, f, c, d)
		if errors.Is(err, ErrNotCompleted) && fl.awaited() {
			continue
		}
		if err != nil {
			return t.orForget(ctx, f, c, err)
		}
		return t.keepLogin(ctx, f, c, k, asked)
	}
}

// device is the answer of RFC 8628 section 3.2.
type device struct {
	Code     string `json:"device_code"`
	UserCode string `json:"user_code"`
	URI      string `json:"verification_uri"`
	Complete string `json:"verification_uri_complete"`
	Life     int    `json:"expires_in"` // seconds
	Interval int    `json:"interval"`   // seconds

	expires time.Time
}

func (t *Transport) deviceCode(ctx context.Context, fl *flight, f finding, c client, asked []string) (device, error) {
	form := make(url.Values)
	setIf(form, "scope", strings.Join(asked, " "))
	setIf(form, "resource", t.cfg.resourceOf(f))
	setIf(form, "audience", t.cfg.Audience)
	t.addExtra(form)
	sent := t.cfg.now()
	a, err := t.postForm(ctx, f.server.DeviceEndpoint, f.server, c, form, "")
	if err != nil {
		return device{}, &SignInError{Stage: StageAuthorize, Server: f.server.name(), Status: a.status, Err: err}
	}
	var d device
	if a.status != http.StatusOK || json.Unmarshal(a.body, &d) != nil || d.Code == "" || d.UserCode == "" {
		return device{}, t.orForget(ctx, f, c, replyError(StageAuthorize, f.server.DeviceEndpoint, a.status, a.body, secretsOf(form, c)))
	}
	if d.Complete == "" {
		d.Complete = d.URI
	}
	for _, link := range []*string{&d.URI, &d.Complete} {
		u, err := url.Parse(*link)
		if err != nil || u.Host == "" || !safe(u, true, t.cfg.AllowInsecureHTTP) {
			return device{}, &SignInError{Stage: StageAuthorize, Server: f.server.name(), Code: CodeInsecureURL, Refused: true,
				Description: "the verification URI is no https URL"}
		}
		*link = u.String() // nothing of it can harm a terminal
	}
	if len(d.UserCode) > maxUserCode || strings.ContainsFunc(d.UserCode, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return device{}, &SignInError{Stage: StageAuthorize, Server: f.server.name(), Code: CodeBadReply, Refused: true,
			Description: "a user code that nobody can type"}
	}
	life := time.Duration(d.Life) * time.Second
	if life <= 0 {
		life = deviceLife
	}
	d.expires = sent.Add(life)
	fl.addSecrets(d.Code)
	return d, nil
}

// poll shows d to the person and asks for its token until there is one, the person or
// the server said no, or the code expired: then ErrNotCompleted is beneath.
func (t *Transport) poll(ctx context.Context, l *leadership, f finding, c client, d device) (token, error) {
	p := Prompt{AuthorizeURL: d.Complete, VerificationURI: d.URI, UserCode: d.UserCode, Issuer: f.server.Issuer, Expires: d.expires}
	l.announce(p)
	t.callback.Store(nil) // nothing can be delivered
	t.status.show(ctx, p)
	defer t.status.show(ctx, Prompt{})
	interval := time.Duration(d.Interval) * time.Second
	if d.Interval <= 0 {
		interval = pollInterval
	}
	form := url.Values{"grant_type": {grantTypeDevice}, "device_code": {d.Code}}
	for {
		interval = min(interval, maxInterval)
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return token{}, context.Cause(ctx)
		}
		k, err := t.grant(ctx, StageToken, f.server, c, form)
		se := (*SignInError)(nil)
		switch {
		case err == nil || !errors.As(err, &se):
			return k, err
		case se.Code == "authorization_pending":
		case se.Code == "expired_token":
			return token{}, &SignInError{Stage: StageAuthorize, Server: se.Server, Err: ErrNotCompleted}
		case se.Refused:
			return token{}, err
		default: // slow_down, and a server or a network that fails for a while (section 3.5)
			interval += pollInterval
		}
		if !t.cfg.now().Before(d.expires) { // and the server does not say it
			return token{}, &SignInError{Stage: StageAuthorize, Server: f.server.name(), Err: ErrNotCompleted}
		}
	}
}
