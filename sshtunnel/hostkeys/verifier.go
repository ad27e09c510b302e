package hostkeys

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/sshconfig"
)

// An Asker puts a question to a person, and returns the answer. The prompt may have several lines.
// The error wraps ErrNoPerson where nobody is there.
type Asker func(ctx context.Context, prompt string) (answer string, err error)

// Config says what a Verifier works with.
type Config struct {
	// Host is the host that is dialed. It is not changed.
	Host *sshconfig.Host
	// Getenv looks up environment variables in KnownHostsCommand. With nil, the form ${NAME} is not
	// expanded.
	Getenv func(string) string
	// Log receives what becomes of known_hosts; nil discards it.
	Log *slog.Logger
}

// Verifier checks the host key of one connection by the rules of OpenSSH's check_host_key. Its
// methods are called one after the other: New, perhaps DialedDirectly, Algorithms, Verify for each
// key exchange, HandleUpdates.
type Verifier struct {
	host   *sshconfig.Host
	getenv func(string) string
	log    *slog.Logger
	// allowed are the algorithms of HostKeyAlgorithms, in the user's order.
	allowed []string
	// known are the lines of all files and, for choosing the algorithms, of KnownHostsCommand.
	known []knownEntry

	// ip is the address that was dialed. It is the zero Addr where another hop or a ProxyCommand
	// leads to the host.
	ip netip.Addr

	// accepted is the key that Verify has accepted, and voucher says why.
	accepted ssh.PublicKey
	voucher  Voucher
	// updatable says that UpdateHostKeys may follow, because the key is in the user's own files, or
	// because the person has just accepted it.
	updatable bool
}

// New reads what is known about a host. ctx bounds KnownHostsCommand, whose failure is the error. A
// known_hosts file that cannot be read is logged, and counts as empty.
func New(ctx context.Context, cfg Config) (*Verifier, error) {
	h := cfg.Host
	v := &Verifier{host: h, getenv: cfg.Getenv, log: cfg.Log, allowed: defaultAlgorithms}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	if h.HostKeyAlgorithms != nil {
		v.allowed = supported(h.HostKeyAlgorithms)
	}
	unreadable := func(file string, err error) {
		v.log.Warn("known_hosts not read", "hop", h.Alias, "file", file, "err", err)
	}
	v.known = append(loadKnownHosts(h.UserKnownHostsFiles, SourceUserFile, unreadable),
		loadKnownHosts(h.GlobalKnownHostsFiles, SourceGlobalFile, unreadable)...)
	if v.orderIsGiven() {
		return v, nil
	}
	printed, err := v.runKnownHostsCommand(ctx, "ORDER", v.name(), nil)
	v.known = append(v.known, printed...)
	return v, err
}

// DialedDirectly tells the Verifier which address was dialed. It is not called where another hop or
// a ProxyCommand leads to the host. Without it, CheckHostIP and NoHostAuthenticationForLocalhost do
// nothing.
func (v *Verifier) DialedDirectly(addr net.Addr) {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		v.ip = tcp.AddrPort().Addr().Unmap()
	}
}

// Verify decides about the key that the server has proved to hold, and says what vouched for it.
// Where StrictHostKeyChecking wants it, a person is asked about an unknown key. A nil ask means
// that nobody is there, and so does BatchMode. ctx bounds the questions and KnownHostsCommand.
//
// The error is an *Error, or says why KnownHostsCommand failed. Once a key is accepted, Verify
// accepts it again without another look: servers show it at each rekeying.
func (v *Verifier) Verify(ctx context.Context, key ssh.PublicKey, ask Asker) (Voucher, error) {
	if v.accepted != nil && SameKey(v.accepted, key) {
		return v.voucher, nil
	}
	if ask == nil || v.host.BatchMode {
		ask = func(context.Context, string) (string, error) { return "", ErrNoPerson }
	}
	d := &decision{
		Verifier: v, ctx: ctx, ask: ask,
		voucher: Voucher{Type: key.Type(), Fingerprint: Fingerprint(key)},
		fail:    &Error{Hop: v.host.Alias, Host: v.name(), Type: key.Type(), Fingerprint: Fingerprint(key)},
	}
	if err := d.verify(key); err != nil {
		return Voucher{}, err
	}
	v.accepted, v.voucher = key, d.voucher
	return v.voucher, nil
}

// name returns what the host is called in known_hosts.
func (v *Verifier) name() string {
	if v.host.HostKeyAlias != "" {
		return strings.ToLower(v.host.HostKeyAlias) // an alias stands without the port
	}
	return hostPort(v.host.HostName, v.host.Port)
}
