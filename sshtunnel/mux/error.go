package mux

import "encoding/json"

// Types of errors that the protocol itself has. All other types are those of a [Codec].
const (
	// TypeUnknownOp is the answer to an op that the server does not know.
	TypeUnknownOp = "unknown_op"
	// TypeUnknownVersion is the answer to a version of the protocol that the server does not speak.
	TypeUnknownVersion = "unknown_version"
)

// Error is an error as it travels.
//
// A client that does not know the Type shows Text. One that knows it can rebuild the error from
// Fields and Causes, as it was in the server.
type Error struct {
	// Type names the kind of error. It is empty for an error that is only words and causes.
	Type string `json:"type,omitempty"`
	// Text is the whole error in words, those of its causes included.
	Text string `json:"text,omitempty"`
	// Hop is the index in the greeting's hops of the hop that the error is about. The client has its
	// own alias for that hop. It is nil for an error that is about no hop.
	Hop *int `json:"hop,omitempty"`
	// Fields is an object with what else the error knows. Each Type has its own.
	Fields json.RawMessage `json:"fields,omitempty"`
	// Causes are the errors that this one wraps. The Type decides what the places mean, and a place
	// may be null.
	Causes []*Error `json:"causes,omitempty"`
	// Timeout says of an error without Type that it is a time-out, as net.Error has it.
	Timeout bool `json:"timeout,omitempty"`
	// Versions are those of the protocol that the server speaks, for TypeUnknownVersion.
	Versions []int `json:"versions,omitempty"`
}

// Error returns the words.
func (e *Error) Error() string {
	if e.Text == "" {
		return "shared connection: " + e.Type
	}
	return e.Text
}
