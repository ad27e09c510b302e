package oauth

import (
	"context"
	"errors"

	"sallyport/oauth/asclient"
)

// usesDeviceGrant reports whether the login is by the device grant: because the Config says so, or
// because the server has no authorization endpoint.
func (l *login) usesDeviceGrant() bool {
	switch l.cfg.Grant {
	case GrantDeviceCode:
		return true
	case GrantAuto:
		return l.server.AuthorizationEndpoint == "" && l.server.DeviceEndpoint != ""
	}
	return false
}

// runDevice is the device grant (RFC 8628): the person approves on any device, while we ask the
// token endpoint for the token. A code that expires is followed by a new one as long as somebody
// waits.
func (l *login) runDevice(ctx context.Context) error {
	if l.server.DeviceEndpoint == "" {
		return l.found.Missing("device authorization endpoint")
	}
	for {
		if err := l.lead.awaitPage(ctx, l.server.Name()); err != nil {
			return err
		}
		if err := l.chooseClient(ctx, ""); err != nil {
			return err
		}
		want := l.wanted(l.found, true)
		d, err := l.as.StartDevice(ctx, l.server, l.client.Credentials, want)
		if err = l.forgetUnknownClient(ctx, err); l.clientWasForgotten(err) {
			continue // and register another client
		}
		if err != nil {
			return err
		}
		l.flight.addSecrets(d.Code)
		k, err := l.awaitApproval(ctx, d)
		switch {
		case err == nil:
			return l.keep(ctx, k, asclient.Authorization{Wanted: want, Consent: true})
		case !errors.Is(err, asclient.ErrCodeExpired):
			return l.forgetUnknownClient(ctx, err)
		case !l.flight.awaited():
			return &asclient.SignInError{Stage: asclient.StageAuthorize, Server: l.server.Name(), Err: ErrNotCompleted}
		}
		l.lead.before = err // what the next code waits for, and why it may not be shown
	}
}

// awaitApproval shows the user code until the person has approved it, or until it has expired.
func (l *login) awaitApproval(ctx context.Context, d asclient.Device) (asclient.Token, error) {
	defer l.show(ctx, Prompt{AuthorizeURL: d.CompleteURI, VerificationURI: d.URI, UserCode: d.UserCode,
		Issuer: l.server.Issuer, Expires: d.Expires}, nil)()
	return l.as.AwaitDevice(ctx, l.server, l.client.Credentials, d, nil)
}
