package relay

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/url"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// signInTool is the reserved name of the tool that a host is offered while the server is not
// reached.
const signInTool = "sallyport_sign_in"

// signInToolEntry is the tool in a list of tools.
var signInToolEntry = encode(map[string]any{
	"name":  signInTool,
	"title": "Sign in",
	"description": "Connects to the server behind this proxy. " +
		"Shows the link by which the person signs in, and waits a while for that. " +
		"The server's own tools follow when the person has signed in. Call it again to go on waiting.",
	"inputSchema": map[string]any{"type": "object", "properties": map[string]any{
		callbackArgument: map[string]string{"type": "string", "description": callbackDescription},
	}},
})

// toolText is the result of a tool that says text.
func toolText(text string) []byte {
	return encode(map[string]any{"content": []map[string]string{{"type": "text", "text": text}}})
}

// signInPending is what the sign-in tool says when nobody has signed in yet.
func signInPending(upstream *url.URL, o *Obstacle) []byte {
	return toolText(fmt.Sprintf("To sign in to %s%s, the person has to open this link in a browser:\n\n%s\n\n"+
		"Show it to the person. After the sign-in, go on with the server's tools, or call %s again to wait.%s",
		where(upstream), o.withCode(), o.URL, signInTool, o.callbackHint()))
}

// withCode puts the code that the person needs into words. It is "" if there is none.
func (o *Obstacle) withCode() string {
	if o.Code == "" {
		return ""
	}
	return " with the code " + oneLine(o.Code)
}

// signIn brings the URL of a sign-in to the person through the host: by the sign-in tool, and by
// elicitation.
type signIn struct {
	session *session
	// idPrefix begins the ids of our requests to the host. Nobody can guess it.
	idPrefix string

	mu sync.Mutex
	// hostShowsURLs says that the host has declared elicitation in URL mode.
	hostShowsURLs bool
	// initialized says that the host has sent notifications/initialized.
	initialized bool
	asked       elicitation
}

// elicitation is a URL that the person has to open, and the request to the host to show it.
type elicitation struct {
	// url is "" if there is nothing to open.
	url   string
	since time.Time
	// id is that of the request. It is "" if the host was not asked.
	id string
	// open says that the host has not answered the request yet.
	open bool
}

func newSignIn(s *session) *signIn {
	return &signIn{session: s, idPrefix: "sallyport-" + rand.Text() + "-"}
}

// begin notes what a new initialize says of the host.
func (i *signIn) begin(hostShowsURLs bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.hostShowsURLs, i.initialized = hostShowsURLs, false
}

// hostReady notes that the host takes requests.
func (i *signIn) hostReady() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.initialized = true
}

// call carries a call of the sign-in tool, also if the host was never offered that: the upstream
// gets no call of this name. It answers when the server is reached and no sign-in is wanted. If the
// call waits for too long, the watcher answers it. h is nil if the host has not sent initialize.
func (i *signIn) call(c *call, h *opening) error {
	s := i.session
	if !i.deliver(c) {
		return nil
	}
	if err := s.obstacles.waitWhile(c.ctx, func(o *Obstacle) bool { return o.Kind != KindSignIn }); err != nil {
		return err
	}
	if err := s.cfg.SignIn(c.ctx); err != nil {
		return s.obstacles.explain(err)
	}
	if h != nil { // a modern host opens nothing
		h.retryNow()
		if err := wait(c.ctx, h.reached); err != nil {
			return err
		}
	}
	if err := s.obstacles.waitWhile(c.ctx, func(o *Obstacle) bool { return o.Kind == KindSignIn }); err != nil {
		return err
	}
	text := where(s.cfg.URL) + " is connected. If its tools are not shown, list them again."
	s.answer(c, resultLine(c.ID, toolText(text)))
	return nil
}

// show asks the host to show the URL of o to the person, once for each URL, if the host can do that
// (elicitation in URL mode, 2025-11-25, client/elicitation). When another URL comes, or none is
// wanted any more, it withdraws the request. It returns after how long to look again. 0 means at
// the next change.
func (i *signIn) show(o *Obstacle) time.Duration {
	s := i.session
	url := ""
	if o != nil {
		url = o.URL
	}
	i.mu.Lock()
	before := i.asked
	if url != before.url {
		i.asked = elicitation{url: url, since: time.Now()}
	}
	left := time.Until(i.asked.since.Add(s.cfg.InitPatience))
	able := url != "" && i.hostShowsURLs && i.initialized && i.asked.id == ""
	if able && left <= 0 {
		i.asked.id, i.asked.open = i.idPrefix+rand.Text(), true
	}
	id := i.asked.id
	i.mu.Unlock()
	if before.id != "" && before.id != id {
		i.withdraw(before)
	}
	switch {
	case able && left > 0:
		return left
	case able:
		s.write(requestLine(encode(id), "elicitation/create", encode(map[string]string{"mode": "url",
			"elicitationId": id, "url": url, "message": "Sign in to " + where(s.cfg.URL) + o.withCode()})))
	}
	return 0
}

// withdraw tells the host that a sign-in is over.
func (i *signIn) withdraw(e elicitation) {
	if e.open {
		i.session.toHost(cancelNotification(encode(e.id), "the sign-in is over"))
	}
	params := encode(map[string]string{"elicitationId": e.id})
	i.session.toHost(ownNotification("notifications/elicitation/complete", params))
}

// hostAnswered reports whether m is the host's answer to an elicitation of ours, and takes it if
// so. Whatever the answer is, the sign-in goes on, because the person has the URL in the browser or
// on stderr, too.
func (i *signIn) hostAnswered(m rawjson.Message) bool {
	if !bytes.HasPrefix(m.ID, []byte(`"`+i.idPrefix)) {
		return false
	}
	i.mu.Lock()
	if rawjson.IDKey(m.ID) == `"`+i.asked.id {
		i.asked.open = false
	}
	i.mu.Unlock()
	action := excerpt(rawjson.MemberText(m.Result, "action"), 64)
	i.session.cfg.Log.Debug("sign-in link shown by the host", "action", action)
	return true
}
