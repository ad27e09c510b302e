package sshconfig

import (
	"io"
	"maps"
	"strconv"
	"time"
)

// Host is what the ssh_config files and the command line say about one host: the answer of
// [Resolver.Resolve].
//
// A field is named like its keyword of ssh_config(5). Tokens, tildes and environment variables are
// expanded, unless the field says otherwise. The zero value of a field means that the keyword was
// not set, unless the field gives another default. Nobody changes a Host after it was made, so it
// may be read concurrently.
type Host struct {
	// Alias is the name as it was typed, without user and port.
	Alias string
	// HostName is the name or address to dial. It is the alias in lower case where the files name
	// none.
	HostName string
	// Port is 22 where unset.
	Port int
	// User is the local user where unset.
	User string

	// ProxyJump lists the hops to pass, the first to be dialed first. Each is "[user@]host[:port]"
	// or an ssh:// URI.
	ProxyJump []string
	// ProxyCommand is run by the user's shell and stands for the TCP connection. It is never set
	// together with ProxyJump, and "none" leaves it empty.
	ProxyCommand string
	// ProxyUseFdpass says that ProxyCommand passes a connected descriptor to its standard output,
	// instead of carrying the bytes itself.
	ProxyUseFdpass bool

	// IdentityFiles are private keys, or .pub files that select a key of the agent, in order.
	IdentityFiles []string
	// IdentityFilesSet is true where the user named the files. Else they are OpenSSH's defaults,
	// and nobody misses those that do not exist.
	IdentityFilesSet bool
	// CertificateFiles are certificates for the keys. Where unset, those beside the IdentityFiles
	// count.
	CertificateFiles []string
	// IdentitiesOnly leaves out the keys of the agent that no file names.
	IdentitiesOnly bool
	// IdentityAgent is the path of the agent's socket, "" for the one of SSH_AUTH_SOCK, or "none".
	IdentityAgent string
	// AddKeysToAgent is yes, no, ask, confirm, a lifetime in seconds such as "3600", or both as in
	// "confirm 3600".
	AddKeysToAgent string

	// UserKnownHostsFiles and GlobalKnownHostsFiles are OpenSSH's defaults where unset, and nil for
	// "none".
	UserKnownHostsFiles   []string
	GlobalKnownHostsFiles []string
	// RevokedHostKeyFiles are the files of RevokedHostKeys; each of them counts.
	RevokedHostKeyFiles []string
	// KnownHostsCommand is as it was written, because its tokens speak of the key that the server
	// shows. ExpandTokens expands them.
	KnownHostsCommand string
	// HostKeyAlias is in lower case.
	HostKeyAlias string
	// StrictHostKeyChecking is yes, no (also for off), ask or accept-new. It is ask where unset.
	StrictHostKeyChecking string
	// HashKnownHosts writes the names in known_hosts as hashes.
	HashKnownHosts bool
	// UpdateHostKeys is yes, no or ask. Where unset, the default depends on other keywords.
	UpdateHostKeys string
	// CheckHostIP also looks up the address in known_hosts.
	CheckHostIP bool
	// NoHostAuthenticationForLocalhost accepts any key of a host on loopback.
	NoHostAuthenticationForLocalhost bool

	// The lists of algorithms are as their +, - and ^ forms leave them, without unknown names. They
	// are nil where unset, which means DefaultAlgorithms. An empty list, which only the form with -
	// can leave, allows nothing.
	HostKeyAlgorithms, KexAlgorithms, Ciphers, MACs []string
	PubkeyAcceptedAlgorithms, CASignatureAlgorithms []string
	// HostKeyAlgorithmsRelative is true where HostKeyAlgorithms was written as a change of the
	// default, by + or -. The order of the list is then not the user's.
	HostKeyAlgorithmsRelative bool

	// RequiredRSASize is the least length of an RSA key, of the host or of the user, in bits. It is
	// 1024 where unset. 0 counts as 1024.
	RequiredRSASize int
	// SecurityKeyProvider is the library that reaches FIDO tokens: a path, "internal" for what
	// OpenSSH has built in, "none", or the name of an environment variable after a $. It is ""
	// where unset.
	SecurityKeyProvider string

	// PreferredAuthentications is nil where unset.
	PreferredAuthentications []string
	// PubkeyAuthentication, PasswordAuthentication and KbdInteractiveAuthentication are true where
	// unset.
	PubkeyAuthentication         bool
	PasswordAuthentication       bool
	KbdInteractiveAuthentication bool
	// NumberOfPasswordPrompts is 3 where unset.
	NumberOfPasswordPrompts int
	// BatchMode forbids every question to the person.
	BatchMode bool

	// AddressFamily is any, inet or inet6.
	AddressFamily string
	// BindAddress is the local address to dial from; "" leaves it to the system.
	BindAddress string
	// ConnectTimeout is 0 where unset, and where the user wants none. ConnectTimeoutSet tells these
	// apart.
	ConnectTimeout time.Duration
	// ConnectTimeoutSet says that ConnectTimeout was set, perhaps to 0 or to "none".
	ConnectTimeoutSet bool
	// ConnectionAttempts is 1 where unset.
	ConnectionAttempts int
	// ServerAliveInterval is 0 where unset, and where the user switched it off. ServerAliveSet
	// tells these apart.
	ServerAliveInterval time.Duration
	// ServerAliveSet says that ServerAliveInterval was set, perhaps to 0.
	ServerAliveSet bool
	// ServerAliveCountMax is 3 where unset.
	ServerAliveCountMax int
	// TCPKeepAlive is true where unset.
	TCPKeepAlive bool
	// ControlPath is the socket of a ControlMaster; "" is none.
	ControlPath string

	// settings holds all lines that `ssh -G` prints.
	settings []Setting
	// named is what Named returns.
	named bool
	// tokens holds the tokens of ssh_config(5) by their letter, for ExpandTokens. It is nil in a
	// Host that no Resolver made.
	tokens map[byte]string
}

// WriteTo writes the configuration in the format of `ssh -G`: one "keyword value" a line, the
// keyword in lower case, the values of a keyword in their order.
func (h *Host) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for _, s := range h.settings {
		n, err := io.WriteString(w, s.Keyword+" "+s.Value+"\n")
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// ExpandTokens expands the tokens of ssh_config(5) in text and, unless getenv is nil, environment
// variables of the form ${NAME}. It is for keywords such as KnownHostsCommand, some of whose tokens
// become known with the connection: more holds these by their letter, and wins over what the Host
// knows. An unknown token and an unset variable are errors.
func (h *Host) ExpandTokens(text string, more map[byte]string, getenv func(string) string) (string, error) {
	tokens := maps.Clone(h.tokens)
	if tokens == nil {
		tokens = map[byte]string{'h': h.HostName, 'n': h.Alias, 'p': strconv.Itoa(h.Port), 'r': h.User}
	}
	maps.Copy(tokens, more)
	return expand(text, tokens, getenv)
}

// newHost makes the fields of a Host of what is set. The fields that need an expansion are set by
// complete.
func newHost(v values) *Host {
	h := &Host{
		IdentitiesOnly: v.yes("identitiesonly"),
		AddKeysToAgent: v.word("addkeystoagent"),

		ProxyUseFdpass: v.yes("proxyusefdpass"),

		PreferredAuthentications:     v.list("preferredauthentications"),
		PubkeyAuthentication:         v.first("pubkeyauthentication") != "false", // it has other values, too
		PasswordAuthentication:       v.yes("passwordauthentication"),
		KbdInteractiveAuthentication: v.yes("kbdinteractiveauthentication"),
		NumberOfPasswordPrompts:      v.number("numberofpasswordprompts"),
		BatchMode:                    v.yes("batchmode"),

		KexAlgorithms:            v.list("kexalgorithms"),
		Ciphers:                  v.list("ciphers"),
		MACs:                     v.list("macs"),
		PubkeyAcceptedAlgorithms: v.list("pubkeyacceptedalgorithms"),
		RequiredRSASize:          v.number("requiredrsasize"),
		SecurityKeyProvider:      v.first("securitykeyprovider"),

		AddressFamily:       v.first("addressfamily"),
		BindAddress:         v.first("bindaddress"),
		ConnectTimeout:      v.seconds("connecttimeout"),
		ConnectionAttempts:  v.number("connectionattempts"),
		ServerAliveInterval: v.seconds("serveraliveinterval"),
		ServerAliveCountMax: v.number("serveralivecountmax"),
		TCPKeepAlive:        v.first("tcpkeepalive") != "no",
		ControlPath:         v.first("controlpath"),
	}
	h.setHostKeyFields(v)
	return h
}

// setHostKeyFields makes the fields that speak of host keys.
func (h *Host) setHostKeyFields(v values) {
	h.UserKnownHostsFiles = v.paths("userknownhostsfile")
	h.GlobalKnownHostsFiles = v.paths("globalknownhostsfile")
	h.RevokedHostKeyFiles = v.paths("revokedhostkeys")
	h.KnownHostsCommand = v.first("knownhostscommand")
	h.HostKeyAlias = v.first("hostkeyalias")
	h.StrictHostKeyChecking = v.word("stricthostkeychecking")
	h.HashKnownHosts = v.yes("hashknownhosts")
	h.UpdateHostKeys = v.word("updatehostkeys")
	h.CheckHostIP = v.yes("checkhostip")
	h.NoHostAuthenticationForLocalhost = v.yes("nohostauthenticationforlocalhost")
	h.HostKeyAlgorithms = v.list("hostkeyalgorithms")
	h.CASignatureAlgorithms = v.list("casignaturealgorithms")
}
