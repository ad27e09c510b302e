package relay

import (
	"bytes"
	"context"
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
var signInToolEntry = sync.OnceValue(func() []byte {
	return encode(map[string]any{
		"name":  signInTool,
		"title": "Sign in",
		"description": "Connects to the server behind this proxy, for which a person has to sign in. " +
			"The first call returns the link that the person has to open. The next call waits until the person has signed in. " +
			"The last answer says how to call the server's own tools.",
		"inputSchema": map[string]any{
			"type": "object",
			"properties": map[string]any{
				callbackArgument: map[string]string{"type": "string", "description": callbackDescription},
				"tool": map[string]string{"type": "string",
					"description": "Leave this out, unless an answer has listed the server's tools without their parameters: the name of a tool to see those of."},
			},
		},
	})
})

// toolText is the result of a tool that says text.
func toolText(text string) []byte {
	return encode(map[string]any{"content": []map[string]string{{"type": "text", "text": text}}})
}

// signInPending is what the sign-in tool says when the person has to open the link of o. The link
// stands first and alone in its line, because some hosts show the first lines only.
func signInPending(upstream *url.URL, o *Obstacle) []byte {
	what := "to sign in to " + where(upstream)
	if o.Kind != KindSignIn {
		what = "because " + o.Text
	}
	andCode := ""
	if o.Code != "" {
		andCode = " and the code"
	}
	return toolText(fmt.Sprintf("%s\n\nThe person has to open this link in a browser%s, %s.\n"+
		"Show the link%s to the person now, exactly as it is. Then call %s again, without waiting for an answer of the person: "+
		"that call waits until the person has signed in.%s%s",
		o.URL, o.withCode(), what, andCode, signInTool, o.elsewhere("\n"), o.callbackHint()))
}

// withCode puts the code that the person needs, or may use, into words. It is "" if there is none.
func (o *Obstacle) withCode() string {
	switch {
	case o.Code == "":
		return ""
	case o.CodeURL != "":
		return ", or enter the code " + oneLine(o.Code) + " at " + oneLine(o.CodeURL) + " on any device"
	}
	return " and enter the code " + oneLine(o.Code)
}

// elsewhere puts what concerns another machine into a line after the words before, if there is
// anything.
func (o *Obstacle) elsewhere(before string) string {
	if o.Elsewhere == "" {
		return ""
	}
	return before + oneLine(o.Elsewhere) + "."
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
	// shown is the last link, or the last words of an obstacle without one, that the person was
	// shown: in an answer of the sign-in tool, or by an elicitation that the host has accepted. ""
	// means that there was none. shownCode is the code with it.
	shown, shownCode string
}

// elicitation is a URL that the person has to open, and the request to the host to show it.
type elicitation struct {
	// url is "" if there is nothing to open. code is the code that the request has named with it.
	url, code string
	since     time.Time
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
	i.hostShowsURLs, i.initialized, i.shown, i.shownCode = hostShowsURLs, false, "", ""
}

// hostReady notes that the host takes requests.
func (i *signIn) hostReady() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.initialized = true
}

// hostInitialized reports whether the host takes requests.
func (i *signIn) hostInitialized() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.initialized
}

// isNews reports whether the person has not been shown yet what is to be done about o, and notes
// that this happens now. Then it is the answer to a call of the sign-in tool, at once: the link, or
// the words of an obstacle that stays until the person has acted. A host that shows links itself is
// asked first. A code that comes to a link later is news, too.
func (i *signIn) isNews(o *Obstacle) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	task := o.URL
	if task == "" && o.Person {
		task = o.Text
	}
	asking := o.URL != "" && i.hostShowsURLs && i.initialized && (i.asked.url != o.URL || i.asked.id == "" || i.asked.open)
	known := i.shown == task && (o.CodeURL == "" || i.shownCode == o.Code)
	news := task != "" && !known && !asking
	if news {
		i.shown, i.shownCode = task, o.Code
	}
	return news
}

// call carries a call of the sign-in tool, also if the host was never offered that: the upstream
// gets no call of this name. It answers when the server is reached and no sign-in is wanted. If the
// call waits for too long, the watcher answers it. h is nil if the host has not sent initialize.
func (i *signIn) call(c *call, h *opening) error {
	s := i.session
	if !i.deliver(c) {
		return nil
	}
	s.watcher.lookAgain() // the link that stands now is the answer
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
	result := i.connected(c, h)
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	s.answer(c, resultLine(c.ID, result))
	return nil
}

// show asks the host to show the URL of o to the person, once for each URL, if the host can do that
// (elicitation in URL mode, 2025-11-25, client/elicitation). When another URL comes, or none is
// wanted any more, it withdraws the request. It returns after how long to look again. 0 means at
// the next change.
func (i *signIn) show(o *Obstacle) time.Duration {
	s := i.session
	wanted := len(s.calls.selected(func(c *call) bool { return c.signIn })) > 0
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
	if wanted {
		left = 0
	}
	able := url != "" && i.hostShowsURLs && i.initialized && i.asked.id == ""
	if able && left <= 0 {
		i.asked.id, i.asked.open, i.asked.code = i.idPrefix+rand.Text(), true, o.Code
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
			"elicitationId": id, "url": url, "message": "Sign in to " + where(s.cfg.URL) + o.withCode() + o.elsewhere(". ")})))
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
	action := excerpt(rawjson.MemberText(m.Result, "action"), 64)
	i.mu.Lock()
	if rawjson.IDKey(m.ID) == `"`+i.asked.id {
		i.asked.open = false
		if action == "accept" {
			i.shown, i.shownCode = i.asked.url, i.asked.code
		}
	}
	i.mu.Unlock()
	i.session.watcher.lookAgain() // a call of the sign-in tool may have waited for this
	i.session.cfg.Log.Debug("sign-in link shown by the host", "action", action)
	return true
}
