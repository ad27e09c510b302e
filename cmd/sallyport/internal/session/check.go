package session

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

// tokenCheckTimeout bounds the request of CheckToken. It is longer than a request to a login server
// may take, which ends the refresh of a token.
const tokenCheckTimeout = 45 * time.Second

// CheckToken shows the token to the upstream, which may have revoked a stored one, or may not
// accept a new one. The error is an *UnauthorizedError if the upstream answers 401. Any other
// answer to a ping outside a session is as good as a success. A login that follows takes the time
// of a login.
func (s *Session) CheckToken(ctx context.Context) error {
	const ping = `{"jsonrpc":"2.0","id":"sallyport-login","method":"ping"}`
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.limitCheck(ctx, cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Upstream.String(), strings.NewReader(ping))
	if err != nil {
		return err
	}
	maps.Copy(req.Header, s.Header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := s.SignIn.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close() // the status says enough, and a stream might never end
	if resp.StatusCode == http.StatusUnauthorized {
		return &UnauthorizedError{Upstream: PlainURL(s.Upstream)}
	}
	return nil
}

// limitCheck calls cancel after tokenCheckTimeout without a login. It ends with ctx.
func (s *Session) limitCheck(ctx context.Context, cancel context.CancelCauseFunc) {
	timer := time.NewTimer(tokenCheckTimeout)
	defer timer.Stop()
	for {
		state, changed := s.SignIn.State()
		expired := timer.C
		if state.Busy {
			timer.Reset(tokenCheckTimeout)
			expired = nil
		}
		select {
		case <-expired:
			cancel(context.DeadlineExceeded)
			return
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// CheckStored returns a *NotStoredError if the tokens of the last sign-in end with this process.
func (s *Session) CheckStored() error {
	if err := s.SignIn.PersistError(); err != nil {
		return &NotStoredError{Upstream: PlainURL(s.Upstream), Err: err}
	}
	return nil
}

// UnauthorizedError says that the upstream refuses the credentials that the settings give, or wants
// some although the settings forbid a sign-in.
type UnauthorizedError struct {
	// Upstream is the URL without its query.
	Upstream string
}

// Error names the upstream.
func (e *UnauthorizedError) Error() string {
	return fmt.Sprintf("%s: status 401: it does not accept the request's credentials", e.Upstream)
}

// NotStoredError says that a login brought tokens that end with this process.
type NotStoredError struct {
	// Upstream is the URL without its query.
	Upstream string
	// Err is why the store could not write.
	Err error
}

// Error says that the sign-in itself succeeded.
func (e *NotStoredError) Error() string {
	return fmt.Sprintf("signed in to %s, but the tokens could not be stored: %v", e.Upstream, e.Err)
}

// Unwrap returns Err.
func (e *NotStoredError) Unwrap() error { return e.Err }
