package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"sallyport/relay/rawjson"
)

// signInTool is the reserved name of the tool that a host is offered while the server is not reached.
const signInTool = "sallyport_sign_in"

var signInToolEntry = encode(map[string]any{
	"name":  signInTool,
	"title": "Sign in",
	"description": "Connects to the server behind this proxy: shows the link by which the person signs in, and waits a while for that. " +
		"The server's own tools follow then. Call it again to go on waiting.",
	"inputSchema": map[string]any{"type": "object", "properties": struct{}{}},
})

// toolText is the result of a tool that says text.
func toolText(text string) []byte {
	return encode(map[string]any{"content": []map[string]string{{"type": "text", "text": text}}})
}

// signIn answers a call of the sign-in tool once the server is reached and no sign-in waits; see attend for what a call in vain
// is told.
func (s *session) signIn(c *call, h *opening) error {
	if err := s.outwait(c.ctx, func(o *Obstacle) bool { return o.Kind != KindSignIn }); err != nil {
		return err
	}
	if err := s.cfg.SignIn(c.ctx); err != nil {
		return s.explain(err)
	}
	h.wake()
	if err := wait(c.ctx, h.done); err != nil {
		return err
	}
	if err := s.outwait(c.ctx, func(o *Obstacle) bool { return o.Kind == KindSignIn }); err != nil {
		return err
	}
	s.answer(c, resultLine(c.ID, toolText(where(s.cfg.URL)+" is connected. If its tools are not shown, list them again.")))
	return nil
}

// outwait waits as long as an obstacle that is meant stands in the way.
func (s *session) outwait(ctx context.Context, meant func(*Obstacle) bool) error {
	for {
		o, changed := s.cfg.Obstacle()
		if o == nil || !meant(o) {
			return nil
		}
		if err := wait(ctx, changed); err != nil {
			return err
		}
	}
}

// inVain is what the sign-in tool says when nobody has signed in yet.
func (s *session) inVain(o *Obstacle) []byte {
	return toolText(fmt.Sprintf("To sign in to %s%s, the person has to open this link in a browser:\n\n%s\n\nShow it to them. Afterwards go on with the server's tools, or call %s again to wait.",
		where(s.cfg.URL), o.withCode(), o.URL, signInTool))
}

// withCode words the code that the person needs; "" without one.
func (o *Obstacle) withCode() string {
	if o.Code == "" {
		return ""
	}
	return " with the code " + oneLine(o.Code)
}

// signInLink is the link that the person is being asked to open.
type signInLink struct {
	url   string // "" none
	since time.Time
	id    string // of its elicitation; "" the host was not asked
	open  bool   // the host has not answered that yet
}

// show asks the host to show o's link to the person (elicitation in URL mode, 2025-11-25, client/elicitation), once for each
// link, if it declared that. It returns when to look again; 0: at the next change.
func (s *session) show(o *Obstacle) time.Duration {
	url := ""
	if o != nil {
		url = o.URL
	}
	s.mu.Lock()
	old := s.link
	if url != old.url {
		s.link = signInLink{url: url, since: time.Now()}
	}
	left := time.Until(s.link.since.Add(s.cfg.InitPatience))
	able := url != "" && s.urlMode && s.initialized && s.link.id == ""
	if able && left <= 0 {
		s.link.id, s.link.open = s.ours+rand.Text(), true
	}
	now := s.link
	s.mu.Unlock()
	if old.id != "" && old.id != now.id {
		s.withdraw(old)
	}
	switch {
	case able && left > 0:
		return left
	case able:
		s.write(ownMessage(now.id, "elicitation/create", map[string]any{"mode": "url", "elicitationId": now.id, "url": url,
			"message": "Sign in to " + where(s.cfg.URL) + o.withCode()}))
	}
	return 0
}

// withdraw tells the host that the sign-in of l is over.
func (s *session) withdraw(l signInLink) {
	if l.open {
		s.write(cancelNotice(encode(l.id), "the sign-in is over").Raw)
	}
	s.write(ownMessage("", "notifications/elicitation/complete", map[string]any{"elicitationId": l.id}))
}

// shownLocked takes the host's answer to an elicitation of ours, and reports whether m is one. The sign-in goes on whatever it
// is: the link is in the browser and on stderr too.
func (s *session) shownLocked(m rawjson.Message) bool {
	if !bytes.HasPrefix(m.ID, []byte(`"`+s.ours)) {
		return false
	}
	if rawjson.IDKey(m.ID) == `"`+s.link.id {
		s.link.open = false
	}
	s.cfg.Log.Debug("sign-in link shown by the host", "action", excerpt(rawjson.MemberText(m.Result, "action"), 64))
	return true
}

// ownMessage is a request of ours to the host, or without an id a notification.
func ownMessage(id, method string, params map[string]any) []byte {
	return encode(struct {
		JSONRPC string         `json:"jsonrpc"`
		ID      string         `json:"id,omitempty"`
		Method  string         `json:"method"`
		Params  map[string]any `json:"params"`
	}{"2.0", id, method, params})
}
