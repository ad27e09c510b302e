package sshtunnel

import (
	"errors"
	"math/rand/v2"
	"time"

	"sallyport/sshtunnel/cleartext"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// The phases of a Tunnel.
const (
	// Idle means that nobody wants the tunnel: nobody has yet, or a link was lost that was not
	// used.
	Idle = "idle"
	// Dialing means that State.Hop is being dialed.
	Dialing = "dialing"
	// Up means that all hops are there.
	Up = "up"
	// Down means that the tunnel was lost or not reached. It is dialed again while somebody wants
	// it.
	Down = "down"
	// NeedsPerson means that a hop wanted an answer or an agent. Each new call tries once more, at
	// most every 30 s.
	NeedsPerson = "needs_person"
	// Refused means that a hop, its host key or the configuration said no, or that there is no
	// algorithm in common. Only Connect tries
	// again.
	Refused = "refused"
)

// State says how a Tunnel is.
type State struct {
	// Phase is one of the constants above.
	Phase string
	// Hop is the alias of the hop that is being dialed, or of the one that failed. It is empty if
	// neither is the case.
	Hop string
	// Notice is what the person should read while the tunnel is dialed. It is zero if nothing was
	// said.
	Notice Notice
	// Err is why the tunnel is down, refused or needs a person. While it is dialed again, Err is
	// still the error of the attempt before.
	Err error
	// SharedBy is the process that shares the connection with this one (Config.Shared). It is 0
	// unless the phase is Up, and for a connection of this process alone.
	SharedBy int
}

// published is a State as everybody sees it.
type published struct {
	State
	// patient says that a person may be at work on the login.
	patient bool
	// since is when the phase began.
	since time.Time
	// changed is closed when another State takes this one's place.
	changed chan struct{}
}

const (
	minBackoff = 500 * time.Millisecond
	maxBackoff = 30 * time.Second
	// stableAfter is how long a link must have been up for its loss to start a new series of
	// attempts.
	stableAfter = 10 * time.Second
	// vainAfter is how short a link is whose login was in vain.
	vainAfter = 2 * time.Second
	// personPause lies between two attempts that need a person or an agent.
	personPause = 30 * time.Second
	// sharedPause bounds the pauses of a shared connection whose hops are not reached, for
	// sharedHurry.
	sharedPause, sharedHurry = time.Second, 30 * time.Second
)

// backoff returns the pause after n+1 failed attempts in a row. It is 0.5 s, doubled n times, at
// most 30 s. A random part of up to half is left out, but the pause is never below 0.5 s.
func backoff(n int) time.Duration {
	d := maxBackoff
	if n < 6 {
		d = minBackoff << n
	}
	return max(minBackoff, d/2+rand.N(d/2+1))
}

// phaseOf classifies the error of an attempt. What the network did may pass. What a server or a
// file decided will not, and to try again could lock an account.
func phaseOf(err error) string {
	if auth, ok := errors.AsType[*AuthError](err); ok {
		if auth.NeedsPerson {
			return NeedsPerson
		}
		return Refused
	}
	if key, ok := errors.AsType[*hostkeys.Error](err); ok {
		if key.NeedsPerson {
			return NeedsPerson
		}
		return Refused
	}
	if _, ok := errors.AsType[*sshconfig.Error](err); ok {
		return Refused
	}
	if proxy, ok := errors.AsType[*ProxyCommandError](err); ok && proxy.NotFound() {
		return NeedsPerson // somebody has to install the program
	}
	if _, ok := errors.AsType[*AlgorithmError](err); ok {
		return Refused
	}
	if peer, ok := errors.AsType[*cleartext.IdentificationError](err); ok && peer.Version != "" {
		return Refused
	}
	return Down
}

// hopOf returns the alias of the hop that an error is about; "" if it is about none.
func hopOf(err error) string {
	if e, ok := errors.AsType[*HopError](err); ok {
		return e.Hop
	}
	return ""
}
