package helper

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Version is the version of the protocol that this package speaks.
const Version = 1

// maxLine is the most bytes of one message.
const maxLine = 64 << 10

// Values of Message.Type. The package comment says who sends which, and when.
const (
	TypeHello    = "hello"
	TypeHold     = "hold"
	TypeHeld     = "held"
	TypeLogin    = "login"
	TypeShown    = "shown"
	TypeRelink   = "relink"
	TypeCallback = "callback"
	TypeOutcome  = "outcome"
	TypeEnd      = "end"
	TypeError    = "error"
	TypeBytes    = "bytes"
)

// Values of Message.How.
const (
	HowConfirm = "confirm"
	HowOpened  = "opened"
	HowWaiting = "waiting"
	HowNowhere = "nowhere"
	// HowByHand and HowUnreached are of helpers that look for the login server first.
	HowByHand    = "by_hand"
	HowUnreached = "unreached"
)

// Values of Message.Kind.
const (
	KindPortBusy = "port_busy"
	KindRefused  = "refused"
	KindTooMany  = "too_many"
	KindInvalid  = "invalid"
)

// Message is one message of either side. The package comment says which members belong to which
// type.
type Message struct {
	// Type is one of the Type constants.
	Type string `json:"type"`
	// Version is the sender's version of the protocol.
	Version int `json:"version,omitempty"`
	// Login is the secret name of the login.
	Login string `json:"login,omitempty"`
	// Upstream is the URL of the upstream without its query.
	Upstream string `json:"upstream,omitempty"`
	// RedirectURI is where the browser comes back to.
	RedirectURI string `json:"redirect_uri,omitempty"`
	// Fixed says that the redirect URI cannot be another one.
	Fixed bool `json:"fixed,omitempty"`
	// Dials says that the login makes connections for the helper.
	Dials bool `json:"dials,omitempty"`
	// Bytes are those of these connections, as of yamux, in base64 (RFC 4648 section 4).
	Bytes string `json:"bytes,omitempty"`
	// More says that the login asks for another port if this one is taken.
	More bool `json:"more,omitempty"`
	// From is the HOST of a login that one helper hands on to another.
	From string `json:"from,omitempty"`
	// Trusted says that the other helper knows the login to be trusted.
	Trusted bool `json:"trusted,omitempty"`
	// Host is HOST as the person typed it.
	Host string `json:"host,omitempty"`
	// AuthorizeURL is the link to the login page.
	AuthorizeURL string `json:"authorize_url,omitempty"`
	// StartURL is a page of the login that leads to the login page and holds no secret. MCP hosts
	// show it. The helper answers for it at the port that it holds. It may be empty.
	StartURL string `json:"start_url,omitempty"`
	// Now is what the clock of the sender shows. The clock of the workstation may show another
	// time.
	Now time.Time `json:"now,omitzero"`
	// LinkExpires is when the link ends, if it ends before the login. It is zero otherwise.
	LinkExpires time.Time `json:"link_expires,omitzero"`
	// State is the state parameter that the callback will have.
	State string `json:"state,omitempty"`
	// Issuer is the authorization server. It may be empty.
	Issuer string `json:"issuer,omitempty"`
	// Expires is when the login ends without an answer.
	Expires time.Time `json:"expires,omitzero"`
	// How is one of the How constants.
	How string `json:"how,omitempty"`
	// Query is the query of the callback, without the question mark.
	Query string `json:"query,omitempty"`
	// OK says that the person is signed in.
	OK bool `json:"ok,omitempty"`
	// Kind is one of the Kind constants.
	Kind string `json:"kind,omitempty"`
	// Text says what happened, for people. It may be a peer's words.
	Text string `json:"text,omitempty"`
}

// Conn sends and receives messages. One goroutine may receive while others send.
type Conn struct {
	conn    net.Conn
	scanner *bufio.Scanner
	sending sync.Mutex
}

// NewConn returns a Conn on a connection. The caller closes the Conn, and so the connection.
func NewConn(conn net.Conn) *Conn {
	s := bufio.NewScanner(conn)
	s.Buffer(nil, maxLine)
	return &Conn{conn: conn, scanner: s}
}

// Send sends one message. The error is the connection's.
func (c *Conn) Send(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(line) >= maxLine {
		return fmt.Errorf("a message of %d bytes is too long", len(line))
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	_, err = c.conn.Write(append(line, '\n'))
	return err
}

// Receive returns the next message. The error is net.ErrClosed at the end of the connection, that
// of the connection, or says that the other side does not speak the protocol.
func (c *Conn) Receive() (Message, error) {
	var m Message
	if !c.scanner.Scan() {
		err := c.scanner.Err()
		switch {
		case err == nil:
			err = net.ErrClosed
		case errors.Is(err, bufio.ErrTooLong):
			err = fmt.Errorf("a message is longer than %d bytes", maxLine)
		}
		return m, err
	}
	if err := json.Unmarshal(c.scanner.Bytes(), &m); err != nil {
		return m, errors.New("the other side does not speak the protocol of helpers")
	}
	return m, nil
}

// Greet exchanges the hellos. The error says so if the other side speaks another version.
func (c *Conn) Greet() error {
	sent := make(chan error, 1)
	go func() { sent <- c.Send(Message{Type: TypeHello, Version: Version}) }() // ends with the connection
	m, err := c.Receive()
	if err != nil {
		return err
	}
	if m.Type != TypeHello || m.Version != Version {
		return fmt.Errorf("the other side speaks version %d of the protocol of helpers, and this one %d", m.Version, Version)
	}
	return <-sent
}

// SetDeadline bounds what is sent and received from now on. The zero time sets no bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.conn.SetDeadline(t) }

// Close ends the connection, and whatever Send or Receive waits for.
func (c *Conn) Close() error { return c.conn.Close() }
