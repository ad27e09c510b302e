package relay

import (
	"cmp"
	"strings"

	"sallyport/relay/rawjson"
)

// callbackArgument is the argument of the sign-in tool that holds a callback.
const callbackArgument = "callback_url"

// callbackDescription says what callbackArgument is for.
const callbackDescription = "Leave it out at first. If the person's browser is on another machine, it ends the sign-in at a page " +
	"that cannot be opened (connection refused). The address of that page, as the person copied it, finishes the sign-in here."

// callbackOf returns the callback in the arguments of a call of the sign-in tool. It is "" if there
// is none.
func callbackOf(c *call) string {
	return strings.TrimSpace(rawjson.MemberText(c.Params, "arguments", callbackArgument))
}

// deliver hands the callback in a call of the sign-in tool, if there is one, to Config.Deliver. It
// reports whether the call goes on. If not, it is answered.
func (i *signIn) deliver(c *call) bool {
	callback := callbackOf(c)
	if callback == "" {
		return true
	}
	err := i.session.cfg.Deliver(c.ctx, callback)
	if err != nil {
		i.session.answer(c, resultLine(c.ID, i.notDelivered(err)))
	}
	return err == nil
}

// notDelivered is what the sign-in tool says when a callback has not led to a sign-in. The words
// are those of Config.Explain, and the link is that of the login that waits now.
func (i *signIn) notDelivered(err error) []byte {
	s := i.session
	e := s.cfg.Explain(err)
	text := "The callback has not led to a sign-in: " + s.cfg.Mask(cmp.Or(e.Text, err.Error()))
	for _, hint := range e.Hints {
		text += "\n" + hint
	}
	if o, _ := s.cfg.Obstacle(); o != nil && o.Kind == KindSignIn && o.URL != "" {
		text += "\n\nThe link to sign in is now:\n\n" + o.URL
		if o.Code != "" {
			text += "\n\nOpen it" + o.withCode() + "."
		}
	}
	return toolFailure(text)
}

// callbackHint says beforehand what to do if the browser does not find the way back. A login by a
// code alone has no way back.
func (o *Obstacle) callbackHint() string {
	if o.URL == "" || o.Code != "" && o.CodeURL == "" {
		return ""
	}
	return " If the browser ends at a page that cannot be opened (connection refused), ask the person to copy the address of " +
		"that page, and call " + signInTool + " with it as " + callbackArgument + "; or the person types sallyport login --paste in a terminal."
}

// toolFailure is the result of a tool that has failed for the reason in the text.
func toolFailure(text string) []byte {
	return encode(map[string]any{"content": []map[string]string{{"type": "text", "text": text}}, "isError": true})
}
