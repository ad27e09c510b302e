package oauth

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"sallyport/oauth/asclient"
)

const (
	// questionTimeout bounds one question of questions.ask.
	questionTimeout = 10 * time.Second
	// answerTime is how long the answer to a question counts.
	answerTime = 10 * time.Second
)

// tokenState is what the upstream holds of a token.
type tokenState int

const (
	// tokenUnclear: it was not reached, or it does not say.
	tokenUnclear tokenState = iota
	// tokenTaken: it takes the token, and takes no request without one.
	tokenTaken
	// tokenDead: it takes the token for no request.
	tokenDead
)

// questions asks the upstream what it holds of a token, and remembers the last answer.
type questions struct {
	// turn holds one value. Whoever has taken it may ask, and use the fields below.
	turn chan struct{}
	// access is the token of the last question, at is when the upstream answered, and state is what
	// it said. at is zero before the first question.
	access string
	at     time.Time
	state  tokenState
}

func newQuestions() *questions {
	q := &questions{turn: make(chan struct{}, 1)}
	q.turn <- struct{}{}
	return q
}

// asksAbout returns what the upstream holds of the token access. It is for a request that was
// refused although nothing else speaks against the token. If another request asks already, this one
// waits for the answer.
func (x *exchange) asksAbout(access string) tokenState {
	ctx, q := x.req.Context(), x.questions
	select {
	case <-q.turn:
		defer func() { q.turn <- struct{}{} }()
	case <-ctx.Done():
		return tokenUnclear
	}
	age := x.cfg.now().Sub(q.at)
	if q.access == access && !q.at.IsZero() && age >= 0 && age < answerTime {
		return q.state
	}
	state := x.question(access)
	if ctx.Err() == nil {
		q.access, q.at, q.state = access, x.cfg.now(), state
	}
	return state
}

// question shows the token access to the upstream with a ping outside a session, up to three times,
// because one refusal may be chance. An upstream that takes the ping without a token as well says
// nothing by taking it.
func (x *exchange) question(access string) tokenState {
	state := tokenUnclear
	for _, pause := range x.cfg.questionPauses {
		if sleep(x.req.Context(), pause) != nil {
			return tokenUnclear
		}
		switch x.ping(access) {
		case tokenTaken:
			if x.ping("") == tokenDead {
				return tokenTaken
			}
			return tokenUnclear
		case tokenDead:
			state = tokenDead
		case tokenUnclear:
			return tokenUnclear
		}
	}
	return state
}

// ping sends a ping with the headers of the request, outside its session. An empty access sends no
// token. The state tokenTaken means only that the upstream has not refused the ping.
func (x *exchange) ping(access string) tokenState {
	const ping = `{"jsonrpc":"2.0","id":"sallyport-probe","method":"ping"}`
	// The context of the request has hooks that would take the ping for the request.
	ctx, cancel := context.WithTimeout(x.life.ctx, questionTimeout)
	defer cancel()
	defer context.AfterFunc(x.req.Context(), cancel)()
	req := x.req.Clone(ctx)
	req.Method, req.ContentLength = http.MethodPost, int64(len(ping))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(ping)), nil }
	req.Body, _ = req.GetBody()
	for name := range req.Header {
		switch name {
		case "Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Last-Event-Id", "Idempotency-Key":
			delete(req.Header, name)
		}
	}
	req.Header["Content-Type"] = []string{"application/json"}
	req.Header["Accept"] = []string{"application/json, text/event-stream"}
	resp, err := x.send(req, req.Body, access)
	if err != nil {
		return tokenUnclear
	}
	defer resp.Body.Close()
	ch := asclient.ReadChallenge(resp.Header)
	switch c := complaintOf(resp, ch, access != ""); {
	case isBusy(resp.StatusCode):
		return tokenUnclear
	case c == complaintNone || c == complaintScope:
		return tokenTaken
	}
	return tokenDead
}
