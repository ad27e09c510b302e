package userkeys

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"
)

// AgentFault says what is wrong with an agent. Other processes read the numbers, so they stay.
type AgentFault int

const (
	// AgentGone means that nobody listens on the agent's socket, or that there is no such socket.
	AgentGone AgentFault = iota + 1
	// AgentUnreachable means that the socket cannot be opened for another reason, such as its mode.
	AgentUnreachable
	// AgentSilent means that the agent has not answered in time.
	AgentSilent
	// AgentEnded means that the agent closed the connection instead of an answer.
	AgentEnded
	// AgentGarbled means that the answer is not one of the agent's protocol.
	AgentGarbled
	// AgentRefused means that the agent answered with a failure. For a signature, the person may
	// have denied it, or the key may be limited to other hosts (ssh-add -h).
	AgentRefused
)

// AgentError says that the agent could not be used.
type AgentError struct {
	// Path is that of the agent's socket.
	Path string `json:"path"`
	// FromEnvironment says that SSH_AUTH_SOCK named the socket, and not IdentityAgent.
	FromEnvironment bool `json:"from_environment,omitempty"`
	// Fault is what is wrong.
	Fault AgentFault `json:"fault"`
	// Signing says that a signature was asked for, and not the list of keys.
	Signing bool `json:"signing,omitempty"`
	// Err is the cause. It may be nil.
	Err error `json:"-"`
}

// Error says what is wrong, and where the name of the socket comes from.
func (e *AgentError) Error() string {
	source := "IdentityAgent"
	if e.FromEnvironment {
		source = "SSH_AUTH_SOCK"
	}
	var what string
	switch {
	case e.Fault == AgentGone:
		what = "nobody listens there any more"
	case e.Fault == AgentUnreachable:
		what = fmt.Sprint(e.Err)
	case e.Fault == AgentSilent:
		what = "it does not answer"
	case e.Fault == AgentEnded:
		what = "it closed the connection"
	case e.Fault == AgentGarbled:
		what = "its answer is not that of an agent"
	case e.Signing:
		what = "it refused to sign: the key may need a confirmation, or be limited to other hosts (ssh-add -h)"
	default:
		what = "it refused to list its keys"
	}
	return fmt.Sprintf("agent at %s (%s): %s", e.Path, source, what)
}

// Unwrap returns the cause.
func (e *AgentError) Unwrap() error { return e.Err }

// dialFault tells a socket that is gone from one that cannot be used.
func dialFault(err error) AgentFault {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return AgentGone
	}
	return AgentUnreachable
}

// dialReason returns the cause of a failed dial without what AgentError says itself.
func dialReason(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
