package oauth

import (
	"context"
	"errors"

	"sallyport/oauth/asclient"
)

// byDevice reports whether to log in by the device grant: as configured, else only at a
// server that has no authorization endpoint.
func (t *Transport) byDevice(s asclient.Server) bool {
	return t.cfg.Grant == GrantDeviceCode || t.cfg.Grant == GrantAuto && s.AuthorizationEndpoint == "" && s.DeviceEndpoint != ""
}

// deviceLogin is RFC 8628: the person approves on any device what we then poll for. A
// code that expired is followed by a new one as long as somebody waits for the token.
func (t *Transport) deviceLogin(ctx context.Context, j job, f asclient.Finding) error {
	if f.Server.DeviceEndpoint == "" {
		return f.Missing("device authorization endpoint")
	}
	for {
		if err := t.brake(ctx, j, f.Server); err != nil {
			return err
		}
		c, err := t.clientAt(ctx, j, f, "")
		if err != nil {
			return err
		}
		asked := t.scopes(f, j, true)
		d, err := t.as.StartDevice(ctx, f.Server, c.Credentials, t.wanted(f, asked))
		if err != nil {
			return t.orForget(ctx, f, c, err)
		}
		t.inUse(d.Code)
		k, err := t.poll(ctx, f, c, d)
		if errors.Is(err, ErrNotCompleted) && t.awaited() {
			continue
		}
		if err != nil {
			return t.orForget(ctx, f, c, err)
		}
		return t.keepLogin(ctx, f, c, k, asked)
	}
}

// poll shows d to the person and waits for the token. ErrNotCompleted is beneath the error if the code
// expired.
func (t *Transport) poll(ctx context.Context, f asclient.Finding, c client, d asclient.Device) (asclient.Token, error) {
	ctx, withdraw := t.present(ctx, Prompt{AuthorizeURL: d.CompleteURI, VerificationURI: d.URI, UserCode: d.UserCode,
		Issuer: f.Server.Issuer, Expires: d.Expires}, nil)
	defer withdraw()
	k, err := t.as.AwaitDevice(ctx, f.Server, c.Credentials, d)
	if errors.Is(err, asclient.ErrCodeExpired) {
		err = &asclient.SignInError{Stage: asclient.StageAuthorize, Server: f.Server.Name(), Err: ErrNotCompleted}
	}
	return k, err
}

// awaited reports whether somebody waits for the flight under way.
func (t *Transport) awaited() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flight != nil && t.flight.waiting > 0
}
