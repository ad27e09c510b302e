package sshtunnel

import (
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// Trace is a set of hooks that tell how a Tunnel is dialed, in the manner of net/http/httptrace.
// Any hook may be nil.
//
// For one attempt the hooks come in this order: Resolved for all hops; then for each hop Connected,
// HostKeyAccepted, KeyExchanged and AuthTried for each try; at last Up. An attempt that fails stops
// somewhere in between, and State has its error. A hop that the user's ControlMaster stands for has
// only Resolved and Connected. With MasterAuto this Connected may come in the middle of a login,
// which is then given up. With a shared connection there are Resolved for all hops, Connected for
// the last one, and Up.
//
// The hooks run in the goroutine that dials, except RoundTrip, which may be called at any time
// while the tunnel is up. A hook must return soon, and must call no method of the Tunnel but State.
type Trace struct {
	// Resolved is called for each hop when ssh_config has been evaluated, before the first hop is
	// dialed.
	Resolved func(ResolvedInfo)
	// Connected is called when what the SSH protocol of a hop runs over is open.
	Connected func(ConnectedInfo)
	// HostKeyAccepted is called when the server's key has been accepted. A key that is refused ends
	// the attempt with a *hostkeys.Error.
	HostKeyAccepted func(HostKeyInfo)
	// KeyExchanged is called with the algorithms of the first key exchange. The connection may
	// exchange keys again later, which is not told. The hook is not called if the server ends the
	// connection before the first try to log in.
	KeyExchanged func(KeyExchangeInfo)
	// AuthTried is called after each try to log in.
	AuthTried func(AuthInfo)
	// Up is called when all hops are there, just before State says so.
	Up func()
	// RoundTrip is called when a hop has answered a request for a sign of life.
	RoundTrip func(RoundTripInfo)
}

// ResolvedInfo says what ssh_config makes of one hop.
type ResolvedInfo struct {
	// Hop is the alias.
	Hop string
	// Host is the hop's configuration. It must not be changed.
	Host *sshconfig.Host
}

// The ways to reach a hop, as ConnectedInfo names them.
const (
	// ByTCP means a TCP connection of our own.
	ByTCP = "tcp"
	// ByHop means a channel of the hop before.
	ByHop = "hop"
	// ByProxyCommand means the stdin and stdout of a ProxyCommand.
	ByProxyCommand = "proxycommand"
	// ByControlMaster means the user's ControlMaster, which is logged in already.
	ByControlMaster = "controlmaster"
	// ByShared means the connection that a process shares (Config.Shared). It stands for all hops.
	ByShared = "shared"
)

// ConnectedInfo says how a hop was reached.
type ConnectedInfo struct {
	// Hop is the alias.
	Hop string
	// By is one of the By constants.
	By string
	// Addr is the IP address and port for ByTCP, the host:port that the hop before was asked for
	// with ByHop, and the path of the socket for ByControlMaster. It is empty for ByProxyCommand.
	Addr string
}

// HostKeyInfo says why the key of a server was accepted.
type HostKeyInfo struct {
	// Hop is the alias.
	Hop string
	// Voucher names the key, and the known_hosts line that vouched for it or what else did.
	Voucher hostkeys.Voucher
}

// KeyExchangeInfo names the algorithms of a connection (RFC 4253 section 7.1).
type KeyExchangeInfo struct {
	// Hop is the alias.
	Hop string
	// KeyExchange is the method of the key exchange, such as mlkem768x25519-sha256.
	KeyExchange string
	// HostKey is the algorithm that the server has signed the exchange with.
	HostKey string
	// ToServer and FromServer protect the two directions.
	ToServer, FromServer CipherInfo
}

// CipherInfo names what protects one direction of a connection.
type CipherInfo struct {
	// Cipher encrypts.
	Cipher string
	// MAC protects against changes. It is empty if the cipher does that itself.
	MAC string
}

// PostQuantum reports whether the key exchange withstands a quantum computer that somebody may have
// one day: whether it contains ML-KEM or NTRU Prime.
func (i KeyExchangeInfo) PostQuantum() bool {
	return strings.HasPrefix(i.KeyExchange, "mlkem") || strings.HasPrefix(i.KeyExchange, "sntrup")
}

// The outcomes of a try to log in.
const (
	// AuthAccepted means that the server let us in.
	AuthAccepted = "accepted"
	// AuthPartial means that the server accepted this and wants another method besides.
	AuthPartial = "partial"
	// AuthRefused means that the server refused.
	AuthRefused = "refused"
	// AuthFailed means that the try did not come to the server's decision. AuthInfo.Err says why.
	AuthFailed = "failed"
)

// AuthInfo is one try to log in (RFC 4252).
type AuthInfo struct {
	// Hop is the alias.
	Hop string
	// Method is publickey, keyboard-interactive or password. It is none if the server lets in
	// everybody.
	Method string
	// Fingerprint is SHA256:... of the key. For a certificate it is that of the key in it. It is
	// empty unless Method is publickey.
	Fingerprint string
	// Source is the file that names the key, or "agent: " and the key's comment. It is empty unless
	// Method is publickey.
	Source string
	// Agent says that the agent signs with the key.
	Agent bool
	// Outcome is one of the Auth constants.
	Outcome string
	// Err is set if Outcome is AuthFailed: the agent did not sign, nobody gave the passphrase, or
	// the connection ended.
	Err error
}

// RoundTripInfo says how long a hop took to answer a request for a sign of life. That includes the
// way through all hops before it.
type RoundTripInfo struct {
	// Hop is the alias.
	Hop string
	// Took is the time between request and answer.
	Took time.Duration
}

// The methods below call a hook if it is there. A nil Trace has none.

func (t *Trace) resolved(chain []*sshconfig.Host) {
	if t == nil || t.Resolved == nil {
		return
	}
	for _, h := range chain {
		t.Resolved(ResolvedInfo{h.Alias, h})
	}
}

func (t *Trace) connected(i ConnectedInfo) {
	if t != nil && t.Connected != nil {
		t.Connected(i)
	}
}

func (t *Trace) hostKeyAccepted(i HostKeyInfo) {
	if t != nil && t.HostKeyAccepted != nil {
		t.HostKeyAccepted(i)
	}
}

func (t *Trace) keyExchanged(hop string, a ssh.NegotiatedAlgorithms) {
	if t != nil && t.KeyExchanged != nil {
		t.KeyExchanged(KeyExchangeInfo{
			Hop:         hop,
			KeyExchange: a.KeyExchange,
			HostKey:     a.HostKey,
			ToServer:    CipherInfo{a.Write.Cipher, a.Write.MAC},
			FromServer:  CipherInfo{a.Read.Cipher, a.Read.MAC},
		})
	}
}

func (t *Trace) authTried(i AuthInfo) {
	if t != nil && t.AuthTried != nil {
		t.AuthTried(i)
	}
}

func (t *Trace) up() {
	if t != nil && t.Up != nil {
		t.Up()
	}
}

func (t *Trace) roundTrip(i RoundTripInfo) {
	if t != nil && t.RoundTrip != nil {
		t.RoundTrip(i)
	}
}
