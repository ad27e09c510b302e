package explain

import (
	"cmp"
	"errors"
	"fmt"

	"sallyport/cmd/sallyport/internal/control"
	"sallyport/oauth"
)

// pasteRows explain why a callback that a person has pasted finishes no login.
var pasteRows = []row{
	on(func(e *control.NoCallbackError) Explanation {
		return Explanation{Kind: KindConfig, Text: e.Error(), Status: StatusUsage, Hints: noCallbackHints(e)}
	}),
	func(_ given, err error) (Explanation, bool) {
		return Explanation{Kind: KindConfig, Status: StatusUsage, Hints: []string{
			"copy the whole address from the browser's address bar, not only its code and state",
		}}, errors.Is(err, oauth.ErrIncomplete)
	},
	on(func(e *control.NotTakenError) Explanation {
		return Explanation{Kind: KindSignIn, Text: e.Error(), Status: StatusSignIn, Hints: notTakenHints(e)}
	}),
	on(func(e *control.LoginFailedError) Explanation {
		return Explanation{Kind: cmp.Or(e.Kind, KindSignIn), Text: e.Text, Status: StatusSignIn, Hints: e.Hints}
	}),
}

// noCallbackHints says what to copy.
func noCallbackHints(e *control.NoCallbackError) []string {
	switch {
	case e.IsLoginPage:
		return []string{"sign in on that page first; then copy the address of the page that cannot be opened"}
	case e.Lacks == "state":
		return []string{"it was cut off: a shell ends a command at an & without quotes, and a terminal cuts a line after 4095 characters (macOS: 1023)",
			"type sallyport login --paste and give the address to the prompt; a longer one comes on stdin, as pbpaste | sallyport login --paste"}
	case e.Lacks != "":
		return []string{"copy the address after the sign-in, when the browser says that it cannot connect; it holds code= and state="}
	}
	return []string{"copy the whole address from the browser's address bar: http://127.0.0.1:PORT/callback?code=...&state=..."}
}

// maxListed is how many processes the hints name.
const maxListed = 5

// notTakenHints says which logins wait, and what to do about those that should.
func notTakenHints(e *control.NotTakenError) []string {
	var list []string
	for _, s := range e.Waiting[:min(len(e.Waiting), maxListed)] {
		list = append(list, fmt.Sprintf("%s %d waits for the sign-in to %s", cmp.Or(s.Command, "proxy"), s.PID, s.Upstream))
	}
	for _, s := range e.Old[:min(len(e.Old), maxListed)] {
		list = append(list, fmt.Sprintf("%s %d is of an older version, which takes no callback: start it anew", cmp.Or(s.Command, "proxy"), s.PID))
	}
	if len(e.Waiting) > 0 {
		return append(list, "open the link that it shows now, sign in there, and paste the address that this ends at")
	}
	for _, s := range e.Idle[:min(len(e.Idle), maxListed)] {
		list = append(list, fmt.Sprintf("%s %d to %s is not signing in: call one of its tools first", cmp.Or(s.Command, "proxy"), s.PID, s.Upstream))
	}
	return append(list, "paste it on the machine, and as the user, where the login waits; sallyport login URL begins one, and takes the address in its own terminal")
}
