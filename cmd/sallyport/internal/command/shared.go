package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/control"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/mux"
)

// sharedTimeout is how long all shared connections together have for an answer. All proxies have
// as long, at the same time.
const sharedTimeout = 2 * time.Second

// sharedConnection is one shared connection in the status.
type sharedConnection struct {
	// Socket is its path. No two have the same one.
	Socket string `json:"socket"`
	// Silent says that it does not answer. What it would have said is then left out.
	Silent bool `json:"silent"`
	// sharedAnswer is what it says of itself. It is nil if it is silent.
	*sharedAnswer
	// Problem is what is in the way. It is nil if nothing is.
	Problem *control.Problem `json:"problem,omitempty"`
}

// sharedAnswer is what a shared connection says of itself.
type sharedAnswer struct {
	// PID is its process, and Version that of its program.
	PID     int    `json:"pid"`
	Version string `json:"version"`
	// Started is when the process began.
	Started time.Time `json:"started"`
	// Hops are the servers on the way, the last one at the end.
	Hops []sharedHop `json:"hops"`
	// Phase is one of the phases of sshtunnel.State, and Since is when it began.
	Phase string    `json:"phase"`
	Since time.Time `json:"since,omitzero"`
	// Dialing is the alias of the hop that is dialed. It is empty if none is.
	Dialing string `json:"dialing,omitempty"`
	// Notice is what the hop says to the person meanwhile. It is empty if it says nothing.
	Notice string `json:"notice,omitempty"`
	// Traffic counts streams, bytes, and SSH connections.
	mux.Traffic
	// RoundTrip is how long the last hop takes to answer, in milliseconds. It is 0 if it is not
	// known.
	RoundTrip float64 `json:"round_trip_ms,omitempty"`
	// Users are the processes that use it, the oldest first. If there are too many for one answer,
	// the last ones are left out. Attached counts all.
	Users    []sharedUser `json:"users"`
	Attached int          `json:"attached"`
	// Term says when it ends.
	mux.Term
}

// sharedHop is one hop of a shared connection.
type sharedHop struct {
	// Alias is the name in ssh_config by which the process that has started it knows the hop.
	Alias string `json:"alias"`
	// Address is user@host:port.
	Address string `json:"address,omitempty"`
}

// sharedUser is a process that uses a shared connection.
type sharedUser struct {
	// PID is the process.
	PID int `json:"pid"`
	// Purpose is the URL of its upstream, or its command.
	Purpose string `json:"purpose,omitempty"`
	// Aliases are its own names for the hops.
	Aliases []string `json:"aliases,omitempty"`
	// Since is when it came.
	Since time.Time `json:"since"`
	// Waiting says that it waits for the hops.
	Waiting bool `json:"waiting"`
}

// sharedConnections asks the shared connections on the sockets, at the same time. Those of other
// users are logged and left out.
func (a *app) sharedConnections(ctx context.Context, sockets []string) []sharedConnection {
	ctx, cancel := context.WithTimeout(ctx, sharedTimeout)
	defer cancel()
	list := []sharedConnection{}
	for _, shown := range share.AskAll(ctx, sockets) {
		if _, foreign := errors.AsType[*localsock.PeerError](shown.Err); foreign {
			a.log.Warn("a socket of a shared connection is not used", "path", shown.Path, "err", shown.Err)
			continue
		}
		list = append(list, newSharedConnection(a.words, shown))
	}
	slices.SortStableFunc(list, func(a, b sharedConnection) int { return a.started().Compare(b.started()) })
	return list
}

// started is when the process began; zero if it is silent.
func (c sharedConnection) started() time.Time {
	if c.sharedAnswer == nil {
		return time.Time{}
	}
	return c.Started
}

// newSharedConnection makes the entry of one shared connection, with the words for what is in the
// way.
func newSharedConnection(words explain.Explainer, shown share.Shown) sharedConnection {
	c, s := sharedConnection{Socket: shown.Path}, shown.Status
	if shown.Err != nil {
		c.Silent, c.Problem = true, problemOf(words.Error(shown.Err))
		return c
	}
	c.sharedAnswer = &sharedAnswer{
		PID: s.PID, Version: s.Version, Started: s.Started, Hops: []sharedHop{}, Phase: s.Phase, Since: s.Since,
		Traffic: s.Traffic, RoundTrip: float64(s.RoundTrip.Round(time.Microsecond)) / float64(time.Millisecond),
		Users: []sharedUser{}, Attached: max(s.Attached, len(s.Users)), Term: s.Term,
	}
	for i, alias := range s.Hops {
		hop := sharedHop{Alias: alias}
		if i < len(s.Addresses) {
			hop.Address = s.Addresses[i]
		}
		c.Hops = append(c.Hops, hop)
	}
	for _, u := range s.Users {
		c.Users = append(c.Users, sharedUser{PID: u.PID, Purpose: session.BeforeQuery(u.Purpose), Aliases: u.Hops, Since: u.Since, Waiting: u.Waiting})
	}
	if s.State == nil {
		return c
	}
	if i := s.State.Hop; i != nil && *i >= 0 && *i < len(s.Hops) && s.Phase == sshtunnel.Dialing {
		c.Dialing = s.Hops[*i]
	}
	if s.State.Notice != nil {
		c.Notice = s.State.Notice.Text
	}
	if err := sshtunnel.DecodeError(s.State.Error, s.Hops); err != nil {
		c.Problem = problemOf(words.Error(err))
	}
	return c
}

// problemOf returns an explanation as the status has it.
func problemOf(e explain.Explanation) *control.Problem {
	return &control.Problem{Kind: e.Kind, Text: e.Text, Hints: e.Hints}
}

// write prints one shared connection. The time now tells how long it lasts.
func (c sharedConnection) write(b *strings.Builder, now time.Time) {
	if c.sharedAnswer != nil {
		c.sharedAnswer.write(b, now)
	} else {
		writeTitle(b, "shared connection at "+c.Socket)
	}
	writeProblem(b, c.Problem)
}

// write prints what a shared connection says of itself.
func (s *sharedAnswer) write(b *strings.Builder, now time.Time) {
	var hops []string
	for _, hop := range s.Hops {
		hops = append(hops, hop.Address)
	}
	writeTitle(b, fmt.Sprintf("shared connection %d through %s, since %s", s.PID, strings.Join(hops, ", "), s.Started.Local().Format(time.DateTime)))
	writeRow(b, "way", s.way())
	writeRow(b, "state", s.state(now))
	writeRow(b, "says", s.Notice)
	writeRow(b, "streams", fmt.Sprintf("%d open, %d in all, %s in, %s out", s.Streams, s.Opened, byteCount(s.BytesIn), byteCount(s.BytesOut)))
	for _, user := range s.Users {
		writeRow(b, "used by", user.String())
	}
	if more := s.Attached - len(s.Users); more > 0 {
		writeRow(b, "used by", fmt.Sprintf("%d more", more))
	}
	writeRow(b, "ends", s.end(now))
}

// way draws the hops in one line, from this machine to the last one, by the names that the person
// knows them by.
func (s *sharedAnswer) way() string {
	text := "here"
	for _, hop := range s.Hops {
		text += " -- " + cmp.Or(hop.Alias, hop.Address)
	}
	if s.RoundTrip > 0 {
		text += fmt.Sprintf(", %.1f ms there and back", s.RoundTrip)
	}
	return text
}

// state says how the hops are.
func (s *sharedAnswer) state(now time.Time) string {
	text := s.Phase
	if s.Dialing != "" {
		text += " " + s.Dialing
	}
	if s.Phase == sshtunnel.Up {
		text += " for " + lasting(now.Sub(s.Since))
	}
	if s.Connections > 1 {
		text += fmt.Sprintf(", %d connections", s.Connections)
	}
	if s.RoundTrip > 0 {
		text += fmt.Sprintf(", round trip %.1f ms", s.RoundTrip)
	}
	return text
}

// end says when a shared connection ends.
func (s *sharedAnswer) end(now time.Time) string {
	if s.Draining {
		return "with its last stream; it takes no new one"
	}
	var parts []string
	if !s.EndsAt.IsZero() {
		parts = append(parts, "in "+lasting(s.EndsAt.Sub(now)))
	}
	if !s.IdleEndsAt.IsZero() {
		parts = append(parts, "unused in "+lasting(s.IdleEndsAt.Sub(now)))
	}
	return strings.Join(parts, ", ")
}

// String names the process, its own name for the way, and what it is there for.
func (u sharedUser) String() string {
	text := fmt.Sprint(u.PID)
	if len(u.Aliases) > 0 {
		text += " via " + strings.Join(u.Aliases, ", ")
	}
	if u.Purpose != "" {
		text += ": " + u.Purpose
	}
	if u.Waiting {
		text += " (waits)"
	}
	return text
}

// lasting words a time that may be over.
func lasting(d time.Duration) string { return max(0, d).Round(time.Second).String() }

// byteCount words a number of bytes.
func byteCount(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
