// Package cleartext reads what an SSH server says before the connection is encrypted: text before
// its version, the version, and the messages of the first key exchange.
package cleartext

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/userkeys"
)

// maxKexBytes bounds what of the first key exchange is looked at, in bytes. The longest that
// x/crypto accepts is one packet of 256 KiB.
const maxKexBytes = 1 << 20

// Witness is a connection to a server that reads along with the first key exchange and keeps the
// server's signature. An agent wants it as the proof of a session, and x/crypto does not tell it.
type Witness struct {
	net.Conn
	// over is set when nothing more is of interest. The fields below belong to Read until then.
	over atomic.Bool
	// text is what came and is not read yet, and seen is how much came.
	text []byte
	seen int
	// greeted is set when the identification of the server has come.
	greeted bool
	// reply is the last message that has the form of the server's reply. It is nil before.
	reply *kexReply
}

// kexReply is the server's last message of a key exchange (RFC 4253 section 8, RFC 4419 section 3,
// RFC 5656 section 4). The newer methods have the same form.
type kexReply struct {
	HostKey, Public, Signature []byte
}

// NewWitness returns conn without the text that a server may send before its version. Read fails
// with an [IdentificationError] if no version comes, or another than 2.
func NewWitness(conn net.Conn) *Witness { return &Witness{Conn: &greetingConn{Conn: conn}} }

// Read implements net.Conn. It must not be called concurrently.
func (w *Witness) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 && !w.over.Load() {
		w.text = append(w.text, p[:n]...)
		w.seen += n
		if w.look(); w.seen > maxKexBytes {
			w.over.Store(true)
		}
		if w.over.Load() {
			w.text = nil
		}
	}
	return n, err
}

// look takes whole lines and packets off the text.
func (w *Witness) look() {
	for !w.greeted {
		// Lines may come before the identification (RFC 4253 section 4.2).
		line, rest, ok := bytes.Cut(w.text, []byte("\n"))
		if !ok {
			return
		}
		w.text, w.greeted = rest, bytes.HasPrefix(line, []byte("SSH-"))
	}
	for !w.over.Load() {
		// A packet without encryption and MAC (RFC 4253 section 6).
		if len(w.text) < 6 {
			return
		}
		length := binary.BigEndian.Uint32(w.text)
		if length < 2 || length > maxKexBytes {
			w.over.Store(true)
			return
		}
		if uint32(len(w.text)-4) < length {
			return
		}
		packet := w.text[4 : 4+length]
		w.text = w.text[4+length:]
		padding := int(packet[0])
		if padding+2 > len(packet) {
			w.over.Store(true)
			return
		}
		w.message(packet[1], packet[2:len(packet)-padding])
	}
}

const (
	msgNewKeys = 21
	// msgKexReply is SSH_MSG_KEXDH_REPLY and SSH_MSG_KEX_ECDH_REPLY. In a group exchange it is the
	// group, which has another form.
	msgKexReply = 31
	// msgGexReply is SSH_MSG_KEX_DH_GEX_REPLY.
	msgGexReply = 33
)

// message looks at one message of the server.
func (w *Witness) message(number byte, body []byte) {
	switch number {
	case msgKexReply, msgGexReply:
		var r kexReply
		if ssh.Unmarshal(body, &r) == nil {
			w.reply = &kexReply{bytes.Clone(r.HostKey), nil, bytes.Clone(r.Signature)}
		}
	case msgNewKeys:
		w.over.Store(true)
	}
}

// Binding returns what proves the session to an agent. ok is false if the witness has not seen a
// reply whose signature fits.
func (w *Witness) Binding(session []byte) (b userkeys.Binding, ok bool) {
	if !w.over.Load() || w.reply == nil {
		return b, false
	}
	key, err := ssh.ParsePublicKey(w.reply.HostKey)
	var sig ssh.Signature
	if err != nil || ssh.Unmarshal(w.reply.Signature, &sig) != nil || key.Verify(session, &sig) != nil {
		return b, false
	}
	return userkeys.Binding{HostKey: w.reply.HostKey, Session: session, Signature: w.reply.Signature}, true
}

// UnreadableKey returns the type of the server's key and why the key cannot be used, if the type is
// not known, or if the key is a certificate of an authority with such a key. The error is nil for
// any other key.
func (w *Witness) UnreadableKey() (keyType string, err error) {
	if w.reply == nil {
		return "", nil
	}
	_, err = ssh.ParsePublicKey(w.reply.HostKey)
	if keyType = keyTypeOf(w.reply.HostKey); err == nil || keyType == "" {
		return "", nil
	}
	return keyType, fmt.Errorf("%s; HostKeyAlgorithms -*cert* asks the server for its plain key", display.Cut(strings.TrimPrefix(err.Error(), "ssh: ")))
}

// keyTypeOf returns the type that a key in wire format begins with.
func keyTypeOf(blob []byte) string {
	var head struct {
		Type string
		Rest []byte `ssh:"rest"`
	}
	if ssh.Unmarshal(blob, &head) != nil {
		return ""
	}
	return display.Cut(display.Printable(head.Type))
}
