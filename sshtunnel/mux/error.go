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
// Fields and Causes, as it was in the server. These are the types, their fields, and in brackets
// the error that each place of Causes is for. A field is left out if it is empty, 0 or false.
//
//	hop             hop addr stage [cause]. stage is connect, handshake, auth or link
//	timeout         after person queued program said
//	silent          after (nanoseconds) why
//	auth            hop user tried methods notes agent needs_person too_many met_at not_before
//	                said [cause, cause of agent]
//	agent           path from_environment fault signing [cause]. fault is 1 gone, 2 unreachable,
//	                3 silent, 4 ended, 5 garbled, 6 refused. auth's agent is the same object
//	host_key        hop host type fingerprint changed revoked unknown short cert_err needs_person
//	                known (a list of file line type fingerprint) [cause]
//	open            hop network addr reason (RFC 4254 section 5.1) msg
//	listen          hop network addr
//	exit            status signal stderr
//	algorithm       keyword ours theirs possible
//	identification  version said ended
//	proxy_command   program status signal stderr [cause]
//	ssh_config      file line msg
//	errno           name, such as ECONNREFUSED
//	dns             err name server is_timeout is_temporary is_not_found [cause]
//	net_op          op net source addr (both: net text) [cause]
//	net_addr        err addr
//	net_parse       type text
//	path            op path [cause]
//	link            op old new [cause]
//	syscall         syscall [cause]
//	exec            name [cause]
//	ssh_open        reason message, of the library x/crypto/ssh, as are the next three
//	ssh_algorithm   what requested supported
//	ssh_banner      message [cause]
//	ssh_exit_missing
//
// Types without fields are well-known errors: no_person (nobody can be asked), tunnel_closed,
// link_lost (make the call again on another connection), abandoned, no_auth, canceled,
// deadline_exceeded, eof, unexpected_eof, closed_pipe, short_write, net_closed, io_timeout,
// process_done, not_exist, exist, permission, invalid, file_closed, not_found, wait_delay and
// unsupported. An error without Type is words, and Causes are all that it wraps.
type Error struct {
	// Type names the kind of error. It is empty for an error that is only words and causes.
	Type string `json:"type,omitempty"`
	// Text is the whole error in words, those of its causes included.
	Text string `json:"text,omitempty"`
	// Hop is the index in the greeting's hops of the hop that the error is about. The client has
	// its own alias for that hop. It is nil for an error that is about no hop.
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
