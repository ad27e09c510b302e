// Package explain turns errors into words for people: one line that says what happened and where,
// hints that say what to type next, the exit status, and whether waiting can mend it. It is the
// only place where that is decided.
//
// The table has one file for each library whose errors it explains. A row knows an error by its
// type, never by its text.
package explain

import (
	"errors"
	"slices"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/relay"
)

// Exit statuses, a contract with scripts.
const (
	StatusDone        = 0
	StatusFailed      = 1
	StatusUsage       = 2
	StatusHostKey     = 3
	StatusSSHAuth     = 4
	StatusSignIn      = 5
	StatusUnreachable = 6
	StatusInterrupted = 130
)

// Values of Explanation.Kind, which MCP hosts find in the data of an error. They are a contract
// too.
const (
	KindConfig      = "config"
	KindHostKey     = "host_key"
	KindSSHAuth     = "ssh_auth"
	KindSSHPerson   = "ssh_needs_person"
	KindSignIn      = relay.KindSignIn
	KindRefused     = relay.KindRefused
	KindMetadata    = "oauth_metadata"
	KindUnreachable = "unreachable"
	KindForwarding  = "ssh_forwarding"
	KindTLS         = "tls"
	KindTimeout     = "timeout"
	KindStatus      = "status"
	KindPort        = "callback_port"
	KindOwner       = "callback_owner"
	KindOther       = "failed"
)

// Explanation is an error in words for people.
type Explanation struct {
	// Kind is one of the Kind constants.
	Kind string
	// Text is one line that says what happened, and where.
	Text string
	// Hints say what to type next, one line each.
	Hints []string
	// Status is the exit status of a command that ends with this error.
	Status int
	// Final is the error if waiting cannot mend it. It is nil if another attempt may succeed.
	Final error
	// NotRun says that the upstream refused the request for lack of a token, and so has not run it.
	NotRun bool
}

// Obstacle returns the explanation as the relay gives it to the MCP host.
func (e Explanation) Obstacle() *relay.Obstacle {
	return &relay.Obstacle{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Person: e.Kind == KindSSHPerson || e.Kind == KindSSHAuth, Final: e.Final}
}

// Explainer explains errors to a person who has made these settings. The zero value knows of none.
type Explainer struct {
	// Settings decide which hints help: none names a setting that is made already, unless that
	// setting is what is wrong.
	Settings cli.Remote
	// AgentWay is how SSH_AUTH_SOCK gets into this process, if it is not set, an SSH server would
	// need the agent, and none was found. Otherwise it returns "". A nil func does so always.
	AgentWay func() string
}

// Error explains err to a person whose settings are not known.
func Error(err error) Explanation { return Explainer{}.Error(err) }

// Error explains err, which must not be nil. It may be called concurrently.
func (x Explainer) Error(err error) Explanation {
	e := lookUp(given{x.Settings, x.AgentWay}, err)
	// A sign-in starts when the upstream refuses a request. So that request has not run, whatever
	// ended the sign-in.
	e.NotRun = isSignInError(err)
	if e.Text == "" {
		e.Text = err.Error()
	}
	e.Text = person.OneLine(e.Text)
	e.Hints = slices.Clone(e.Hints)
	for i, hint := range e.Hints {
		e.Hints[i] = person.Printable(hint)
	}
	if e.Kind != KindOther && len(e.Hints) > 0 {
		e.Hints = append(e.Hints, "sallyport help "+e.Kind)
	}
	// A wrong setting and a host key that is not trusted stay so until a person acts.
	if e.Status == StatusUsage || e.Status == StatusHostKey {
		e.Final = err
	}
	return e
}

// row explains the errors that it knows, and returns false for all others.
type row func(g given, err error) (Explanation, bool)

// table holds the rows in the order in which they are tried. The network's come last, because the
// other errors wrap them.
var table = slices.Concat(helperRows, settingsRows, sshRows, signInRows, pasteRows, commandRows, machineRows, installRows, upstreamRows, networkRows)

// lookUp returns what the first row says that knows err. An error that no row knows explains
// itself.
func lookUp(g given, err error) Explanation {
	if r := revocation(err); r != nil {
		return explainRevocation(g, r)
	}
	for _, explains := range table {
		if e, ok := explains(g, err); ok {
			return e
		}
	}
	return Explanation{Kind: KindOther, Text: withoutQuery(err), Status: StatusFailed}
}

// on makes the row of the errors that are or wrap an E. The function words gets that E.
func on[E error](words func(e E) Explanation) row {
	return onGiven(func(_ given, e E) Explanation { return words(e) })
}

// onGiven makes a row as on does, whose words depend on the settings.
func onGiven[E error](words func(g given, e E) Explanation) row {
	return func(g given, err error) (Explanation, bool) {
		e, ok := errors.AsType[E](err)
		if !ok {
			return Explanation{}, false
		}
		return words(g, e), true
	}
}

// as makes a row as on does, for errors whose explanation is fixed.
func as[E error](fixed Explanation) row {
	return on(func(E) Explanation { return fixed })
}
