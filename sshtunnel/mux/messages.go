package mux

import (
	"encoding/json"
	"time"
)

// Version is the version of the protocol that this package speaks.
const Version = 1

// The operations that a Request can ask for.
const (
	// OpAttach makes the client known, and dials the chain if that is needed.
	OpAttach = "attach"
	// OpDial opens a connection from the last hop to Request.Address.
	OpDial = "dial"
	// OpListen makes the last hop listen on Request.Address.
	OpListen = "listen"
	// OpAccept takes over a connection that an Arrival has announced. Request.ID names it.
	OpAccept = "accept"
	// OpExec runs Request.Command on the last hop.
	OpExec = "exec"
	// OpWait waits for the end of the command that Request.ID names.
	OpWait = "wait"
	// OpStatus asks for a Status. It is the same in all versions.
	OpStatus = "status"
	// OpDrain asks the server to take no new stream, and to end when its streams have ended. It is
	// the same in all versions.
	OpDrain = "drain"
	// OpStop asks the server to end now. It is the same in all versions.
	OpStop = "stop"
)

// More types of errors that the protocol itself has.
const (
	// TypeBadRequest says that the request is not what the protocol asks for.
	TypeBadRequest = "bad_request"
	// TypeDraining says that the server takes no new stream.
	TypeDraining = "draining"
	// TypeNotAttached says that no client is attached. A stream needs one.
	TypeNotAttached = "not_attached"
)

// Greeting is the first line of the server.
type Greeting struct {
	// Mux is the version of the protocol.
	Mux int `json:"mux"`
	// Version is that of the server's program, such as v0.4.0.
	Version string `json:"version,omitempty"`
	// PID is the server's process.
	PID int `json:"pid"`
	// Started is when the server began.
	Started time.Time `json:"started"`
	// Hops are the aliases of the chain, as the server has them. Messages name a hop by its index
	// in this list.
	Hops []string `json:"hops"`
	// Draining says that the server takes no new stream.
	Draining bool `json:"draining,omitempty"`
}

// Request is the first line of the client.
type Request struct {
	// Mux is the version of the protocol. Open sets it.
	Mux int `json:"mux"`
	// Op is one of the Op constants.
	Op string `json:"op"`
	// Attach describes the client. It is for OpAttach alone.
	Attach *Attach `json:"attach,omitempty"`
	// Network is tcp or unix. It is for OpDial and OpListen.
	Network string `json:"network,omitempty"`
	// Address is host:port or a path. It is for OpDial and OpListen.
	Address string `json:"address,omitempty"`
	// Command is for OpExec.
	Command string `json:"command,omitempty"`
	// ID is for OpAccept and OpWait.
	ID string `json:"id,omitempty"`
	// Why is for OpDrain.
	Why string `json:"why,omitempty"`
}

// Attach describes a client.
type Attach struct {
	// PID is the client's process.
	PID int `json:"pid"`
	// Purpose is what the client uses the connection for, such as the URL of its upstream. Status
	// shows it.
	Purpose string `json:"purpose,omitempty"`
	// Hops are the aliases that the client knows the hops by. Status shows them.
	Hops []string `json:"hops,omitempty"`
	// Terminal says that a person waits at the client's terminal.
	Terminal bool `json:"terminal,omitempty"`
	// Ask says that the client takes questions.
	Ask bool `json:"ask,omitempty"`
	// Insist tries a login also if it was refused shortly before.
	Insist bool `json:"insist,omitempty"`
	// Wait makes the client wait while the hops cannot be reached for a reason that may pass, such
	// as a network that is away. If it is false, the first attempt that fails is the answer.
	Wait bool `json:"wait,omitempty"`
}

// Line is a line of the client after OpAttach. One of its fields is set.
type Line struct {
	// Answer answers a Question.
	Answer *Answer `json:"answer,omitempty"`
	// Ping is not 0 if the client wants a Reply with the same number in Pong.
	Ping int `json:"ping,omitempty"`
}

// Answer is the answer to a Question.
type Answer struct {
	// ID is that of the Question.
	ID string `json:"id"`
	// Text is what the person has answered.
	Text string `json:"text,omitempty"`
	// Error says why there is no answer.
	Error *Error `json:"error,omitempty"`
}

// Reply is any line of the server after its Greeting. One of its fields is set.
type Reply struct {
	// OK says that the request is granted.
	OK *OK `json:"ok,omitempty"`
	// Error says why it is not.
	Error *Error `json:"error,omitempty"`
	// State says how far the chain is dialed.
	State *State `json:"state,omitempty"`
	// Notice is what the person should read.
	Notice *Notice `json:"notice,omitempty"`
	// Question is for the person.
	Question *Question `json:"question,omitempty"`
	// Withdrawn takes a Question back.
	Withdrawn *Withdrawn `json:"withdrawn,omitempty"`
	// Up says that all hops are there.
	Up *Up `json:"up,omitempty"`
	// Pong is the number of a Ping.
	Pong int `json:"pong,omitempty"`
	// Lost says that the connection through the hops has ended. It is the last line.
	Lost *Lost `json:"lost,omitempty"`
	// Draining says that the server takes no new stream.
	Draining *Draining `json:"draining,omitempty"`
	// Arrival announces a connection that has come to a listening hop.
	Arrival *Arrival `json:"arrival,omitempty"`
	// Exit says how a command has ended.
	Exit *Exit `json:"exit,omitempty"`
	// Status answers OpStatus.
	Status *Status `json:"status,omitempty"`
}

// OK says that a request is granted.
type OK struct {
	// Port is the TCP port that the hop listens on. It is for OpListen.
	Port uint32 `json:"port,omitempty"`
	// ID names the command for OpWait. It is for OpExec.
	ID string `json:"id,omitempty"`
}

// State says how far the chain is dialed.
type State struct {
	// Phase is idle, dialing, up, down, needs_person or refused.
	Phase string `json:"phase"`
	// Hop is the index of the hop that is being dialed or has failed. It is nil for none.
	Hop *int `json:"hop,omitempty"`
	// Notice is all that was said at this hop. It is nil if nothing was.
	Notice *Notice `json:"notice,omitempty"`
	// Patient says that a person may be at work on the login.
	Patient bool `json:"patient,omitempty"`
	// Error is why the phase is what it is. While the chain is dialed again, it is still that of
	// the attempt before.
	Error *Error `json:"error,omitempty"`
}

// Notice is what a server or an agent says to the person while a hop is dialed.
type Notice struct {
	// Hop is the index of the hop. It is nil for none.
	Hop *int `json:"hop,omitempty"`
	// Text is printable and may have several lines.
	Text string `json:"text"`
	// URL is the link to open. It is empty if there is none.
	URL string `json:"url,omitempty"`
}

// Question is something that only a person can answer.
type Question struct {
	// ID is for the Answer.
	ID string `json:"id"`
	// Hop is the index of the hop that the question is about. It is nil for none.
	Hop *int `json:"hop,omitempty"`
	// Kind says what is asked for, such as password or host-key.
	Kind string `json:"kind"`
	// Prompt is printable and may have several lines.
	Prompt string `json:"prompt"`
	// Echo says that the answer may be shown while it is typed.
	Echo bool `json:"echo,omitempty"`
}

// Withdrawn takes a Question back.
type Withdrawn struct {
	// ID is that of the Question.
	ID string `json:"id"`
}

// Up says that all hops are there.
type Up struct {
	// Since is when they came.
	Since time.Time `json:"since,omitzero"`
}

// Lost says that the connection through the hops has ended.
type Lost struct {
	// Error is why.
	Error *Error `json:"error,omitempty"`
}

// Draining says that the server takes no new stream.
type Draining struct {
	// Why is for a log.
	Why string `json:"why,omitempty"`
}

// Arrival announces a connection.
type Arrival struct {
	// ID is for OpAccept.
	ID string `json:"id"`
	// Remote is the address that the connection comes from, as the hop tells it.
	Remote string `json:"remote,omitempty"`
}

// Exit says how a command has ended.
type Exit struct {
	// Status is 0 if all went well, and -1 if the hop did not tell.
	Status int `json:"status"`
	// Signal ended the command. It has no SIG in front. It is empty if none did.
	Signal string `json:"signal,omitempty"`
	// Stderr is the beginning of what the command wrote there.
	Stderr string `json:"stderr,omitempty"`
}

// Status describes a server.
type Status struct {
	// PID is the server's process, and Version that of its program.
	PID     int    `json:"pid"`
	Version string `json:"version,omitempty"`
	// Started is when the server began.
	Started time.Time `json:"started"`
	// Hops are the aliases of the chain, as the server has them, and Addresses are where they lead:
	// user@host:port.
	Hops      []string `json:"hops"`
	Addresses []string `json:"addresses,omitempty"`
	// Phase is that of State, and Since is when the phase began.
	Phase string    `json:"phase"`
	Since time.Time `json:"since,omitzero"`
	// State says more about a phase that is not up. It is nil if there is nothing more to say.
	State *State `json:"state,omitempty"`
	// Traffic is what goes through the hops.
	Traffic
	// RoundTrip is how long the last hop took to answer, in nanoseconds. It is 0 if nobody knows.
	RoundTrip time.Duration `json:"rtt,omitempty"`
	// Users are the clients that are attached, in the order of their coming. The last ones are left
	// out if the line would be too long. Attached counts all.
	Users    []User `json:"users,omitempty"`
	Attached int    `json:"attached"`
	// Term says when the server ends.
	Term
}

// Term says when a server ends.
type Term struct {
	// EndsAt is when the server drains at the latest. It is zero if it has no such time.
	EndsAt time.Time `json:"ends_at,omitzero"`
	// IdleSince is when the last stream ended. It is zero while one is open.
	IdleSince time.Time `json:"idle_since,omitzero"`
	// IdleEndsAt is when the server drains if no stream is opened. It is zero while one is open,
	// and if the server goes on without any.
	IdleEndsAt time.Time `json:"idle_ends_at,omitzero"`
	// Draining says that the server takes no new stream.
	Draining bool `json:"draining,omitempty"`
}

// Fit leaves out users, and then the state, until the status fits into a line.
func (s *Status) Fit() {
	for {
		line, err := json.Marshal(Reply{Status: s})
		switch {
		case err != nil || len(line) < MaxLine:
			return
		case len(s.Users) > 0:
			s.Users = s.Users[:len(s.Users)/2]
		case s.State != nil:
			s.State = nil
		default:
			return
		}
	}
}

// Traffic counts what goes through the hops.
type Traffic struct {
	// Streams are the open ones, and Opened all that there were.
	Streams int   `json:"streams"`
	Opened  int64 `json:"opened"`
	// BytesIn came from the hops, and BytesOut went to them.
	BytesIn  int64 `json:"bytes_in"`
	BytesOut int64 `json:"bytes_out"`
	// Connections are the SSH connections through the chain that are up.
	Connections int `json:"connections"`
	// Spares are the connections to addresses that are open before a client asks for them. They are
	// no streams.
	Spares int `json:"spares,omitempty"`
}

// User is a client that is attached.
type User struct {
	// PID is the client's process.
	PID int `json:"pid"`
	// Purpose is what it uses the connection for.
	Purpose string `json:"purpose,omitempty"`
	// Hops are the aliases that it knows the hops by.
	Hops []string `json:"hops,omitempty"`
	// Since is when it came.
	Since time.Time `json:"since"`
	// Waiting says that the client waits for the hops.
	Waiting bool `json:"waiting,omitempty"`
}
