package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"strings"
	"time"
)

// tokenCheckTimeout bounds the request of CheckToken. It is longer than a request to a login server
// may take, which ends the refresh of a token.
const tokenCheckTimeout = 45 * time.Second

// maxHead is how many bytes of an answer are read to see whether it is one of MCP.
const maxHead = 4 << 10

// TokenAnswer is how the upstream answered a request with the token, or without one if there is
// none.
type TokenAnswer struct {
	// Response is the answer. Its body is closed.
	Response *http.Response
	// IsMCP says that an MCP server answered, and not a firewall, or a server at a wrong URL.
	IsMCP bool
}

// CheckToken shows the token to the upstream, which may have revoked a stored one, or may not
// accept a new one. The error is an *UnauthorizedError if the upstream answers 401. A login that
// follows takes the time of a login.
func (s *Session) CheckToken(ctx context.Context) (a TokenAnswer, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.limitCheck(ctx, cancel)
	const ping = `{"jsonrpc":"2.0","id":"sallyport-login","method":"ping"}`
	a, err = s.ask(ctx, http.MethodPost, ping)
	switch {
	case err != nil:
		return a, err
	case a.Response.StatusCode == http.StatusUnauthorized:
		return a, &UnauthorizedError{Upstream: PlainURL(s.Upstream)}
	case a.IsMCP:
		return a, nil
	}
	// Some servers answer a ping outside a session in their own way. They open one all the same, or
	// a stream of the revision 2024-11-05.
	const initialize = `{"jsonrpc":"2.0","id":"sallyport-login","method":"initialize","params":{"protocolVersion":"2025-06-18",` +
		`"capabilities":{},"clientInfo":{"name":"sallyport","version":"0"}}}`
	for _, q := range []struct{ method, body string }{{http.MethodGet, ""}, {http.MethodPost, initialize}} {
		opened, err := s.ask(ctx, q.method, q.body)
		if err != nil {
			continue
		}
		if id := opened.Response.Header.Get(sessionID); id != "" {
			s.endSession(ctx, id)
		}
		if opened.IsMCP {
			return opened, nil
		}
	}
	return a, nil
}

// sessionID is the header that names a session of MCP.
const sessionID = "Mcp-Session-Id"

// ask sends a request to the upstream, with the token.
func (s *Session) ask(ctx context.Context, method, body string) (a TokenAnswer, err error) {
	req, err := http.NewRequestWithContext(ctx, method, s.Upstream.String(), strings.NewReader(body))
	if err != nil {
		return a, err
	}
	maps.Copy(req.Header, s.Header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := s.SignIn.RoundTrip(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == "text/event-stream" {
		return TokenAnswer{resp, resp.StatusCode/100 == 2}, nil // it might never end
	}
	head, _ := io.ReadAll(io.LimitReader(resp.Body, maxHead))
	accepted := resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusNoContent
	return TokenAnswer{resp, accepted || bytes.Contains(head, []byte(`"jsonrpc"`))}, nil
}

// endSession ends the session with the given ID, which was opened only to see whether that works.
func (s *Session) endSession(ctx context.Context, id string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, s.Upstream.String(), nil)
	if err != nil {
		return
	}
	maps.Copy(req.Header, s.Header)
	req.Header.Set(sessionID, id)
	if resp, err := s.SignIn.Background().RoundTrip(req); err == nil {
		resp.Body.Close()
	}
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

// SignInWantedError says that the upstream answers only after a sign-in, and that none was begun.
type SignInWantedError struct {
	// Upstream is the URL without its query.
	Upstream string
}

// Error names the upstream.
func (e *SignInWantedError) Error() string {
	return e.Upstream + ": status 401: it answers only after a sign-in"
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
