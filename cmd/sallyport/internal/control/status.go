package control

import (
	"fmt"
	"time"
)

// Version is the version of the interface that this package speaks.
const Version = 1

// unversioned stands for the interface from before versions, which has the status of version 1 and
// nothing else.
const unversioned = 0

// Status is what a running proxy says of itself. It holds no secret.
type Status struct {
	// PID is the proxy's process ID.
	PID int `json:"pid"`
	// Command is "login" for a `sallyport login` that waits in a terminal. It is empty for a proxy.
	Command string `json:"command,omitempty"`
	// Started is when the proxy started.
	Started time.Time `json:"started"`
	// Upstream is the URL of the upstream without its query.
	Upstream string `json:"upstream"`
	// Profile is the account that the proxy uses there.
	Profile string `json:"profile"`
	// Via is the SSH host in front of the upstream, as the person named it. It is empty if requests
	// leave directly.
	Via string `json:"via,omitempty"`
	// Tunnel is the tunnel to Via. It is nil without one.
	Tunnel *Tunnel `json:"tunnel,omitempty"`
	// Callback is the tunnel to the workstation of --callback-via. It is nil without one.
	Callback *Tunnel `json:"callback,omitempty"`
	// SignIn is SignInPending during a login, or says why the last sign-in failed. It is empty
	// otherwise.
	SignIn string `json:"sign_in,omitempty"`
	// Link leads to the login page of a login that waits. UserCode is a code that the person enters
	// there in the device grant, or at CodeURL in place of opening the link if that is not empty.
	// They are empty if no login waits. The link holds the login's state only where the person's
	// browser is on another machine, which cannot open our own page.
	Link     string `json:"link,omitempty"`
	UserCode string `json:"user_code,omitempty"`
	CodeURL  string `json:"code_url,omitempty"`
	// LinkExpires is when the login ends without an answer. It is zero without a link.
	LinkExpires time.Time `json:"link_expires,omitzero"`
	// Problem is what is wrong at present, in the words that the MCP host got. It is nil if nothing
	// is.
	Problem *Problem `json:"problem,omitempty"`
}

// SignInPending is Status.SignIn during a login.
const SignInPending = "pending"

// Problem is one error in words for people.
type Problem struct {
	// Kind is a stable word, as in the data of an error to the MCP host.
	Kind string `json:"kind"`
	// Text is one line that says what happened, and where.
	Text string `json:"text"`
	// Hints say what to do next, one line each.
	Hints []string `json:"hints,omitempty"`
}

// Tunnel is the state of a tunnel.
type Tunnel struct {
	// Phase is one of the phases of sshtunnel.State.
	Phase string `json:"phase"`
	// Hop is the hop that is dialed, or the one that failed. It is empty otherwise.
	Hop string `json:"hop,omitempty"`
	// Error says why the tunnel is down. It is empty if the tunnel is not down.
	Error string `json:"error,omitempty"`
	// SharedBy is the process of the shared connection that the tunnel goes through. It is 0 if the
	// tunnel is not up, and for a connection of the proxy's own.
	SharedBy int `json:"shared_by,omitempty"`
}

// String returns the phase and, if there are any, the error and the shared connection.
func (t *Tunnel) String() string {
	if t.SharedBy != 0 {
		return fmt.Sprintf("%s, through the shared connection %d", t.Phase, t.SharedBy)
	}
	if t.Error != "" {
		return t.Phase + ": " + t.Error
	}
	return t.Phase
}

// errorBody is the body of an answer other than 200.
type errorBody struct {
	Error    string `json:"error"`
	Versions []int  `json:"versions,omitempty"`
}

// Values of errorBody.Error.
const (
	codeUnknownVersion = "unknown_version"
	codeUnknownRequest = "unknown_request"
	codeBusy           = "busy"
	codeBadRequest     = "bad_request"
)
