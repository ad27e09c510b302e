package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	maxCallback   = 64 << 10 // bytes of a request with a callback
	maxDeliveries = 4        // callbacks that one proxy takes at a time

	// outcomeTimeout bounds how long the outcome of a login is waited for. The token comes from a
	// server that may be slow.
	outcomeTimeout = time.Minute
)

// The values of Outcome.Outcome.
const (
	// SignedIn: the person is signed in.
	SignedIn = "signed_in"
	// Failed: the login has ended with an error.
	Failed = "failed"
	// NotMine: no login of this process waits for this callback, and nothing has changed.
	NotMine = "not_mine"
	// Pending: the login has the callback, and goes on.
	Pending = "pending"
)

// Outcome is what became of a callback that was handed to a proxy. It holds no secret.
type Outcome struct {
	// Outcome is one of the constants above.
	Outcome string `json:"outcome"`
	// Problem says why the login has failed. It is nil for every other outcome.
	*Problem
}

// callbackBody is the body of the request.
type callbackBody struct {
	Callback string `json:"callback"`
}

// takeCallback hands a callback to the login of this process, and waits for the outcome.
func (s *Server) takeCallback(w http.ResponseWriter, r *http.Request) {
	select {
	case s.deliveries <- struct{}{}:
		defer func() { <-s.deliveries }()
	default:
		refuse(w, http.StatusServiceUnavailable, errorBody{Error: codeBusy})
		return
	}
	var body callbackBody
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCallback)).Decode(&body)
	callback, urlErr := url.Parse(body.Callback)
	if err != nil || urlErr != nil || callback.RawQuery == "" {
		refuse(w, http.StatusBadRequest, errorBody{Error: codeBadRequest})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), outcomeTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	// The deadlines of the server are too short for a login.
	conn := http.NewResponseController(w)
	conn.SetReadDeadline(time.Time{})
	conn.SetWriteDeadline(time.Now().Add(outcomeTimeout + requestTimeout))
	outcome := s.handlers.Deliver(ctx, callback)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(outcome)
}

// Deliver hands a callback to the proxy that listens on the socket path, and returns what became of
// it after a minute at most. The error is that of Ask, ErrUnknownRequest for a proxy of an older
// version, or ErrBusy.
func Deliver(ctx context.Context, path string, callback *url.URL) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, outcomeTimeout+2*requestTimeout)
	defer cancel()
	var outcome Outcome
	request, err := json.Marshal(callbackBody{Callback: callback.String()})
	if err != nil {
		return outcome, err
	}
	answer, err := ask(ctx, path, Version, "callback", request)
	if err != nil {
		return outcome, err
	}
	defer answer.Close()
	return outcome, json.NewDecoder(io.LimitReader(answer, maxStatus)).Decode(&outcome)
}
