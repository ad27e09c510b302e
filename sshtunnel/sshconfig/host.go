package sshconfig

import (
	"io"
	"maps"
	"strconv"
	"time"
)

// Host is what the ssh_config files, -o and -J say about one host: the answer of
// [Resolver.Resolve]. Field names are ssh_config keywords (ssh_config(5)); tokens, tildes and
// environment variables are already expanded. A zero value means that the keyword was not set,
// unless the field says otherwise. A Host is not changed after it was made.
type Host struct {
	Alias    string // the name as it was typed, without user and port
	HostName string // what to dial; the alias where the file names none
	Port     int    // 22 where unset
	User     string // the local user where unset

	ProxyJump    []string // hops to pass, each "[user@]host[:port]" or an ssh:// URI, first dialed first
	ProxyCommand string   // run by the user's shell instead of a TCP dial; never set together with ProxyJump, and not by "none"

	IdentityFiles    []string // private keys, or .pub files that select an agent's key, in order
	IdentityFilesSet bool     // false: IdentityFiles are OpenSSH's defaults, and missing ones are not worth a word
	CertificateFiles []string
	IdentitiesOnly   bool
	IdentityAgent    string // socket path; "" the one of SSH_AUTH_SOCK; "none" no agent
	AddKeysToAgent   string // yes, no, ask, confirm, a life in seconds ("3600"), or both ("confirm 3600")

	UserKnownHostsFiles              []string // OpenSSH's defaults where unset
	GlobalKnownHostsFiles            []string
	RevokedHostKeys                  string   // the first of RevokedHostKeyFiles
	RevokedHostKeyFiles              []string // all count
	KnownHostsCommand                string   // as written: its tokens speak of the key that the server shows
	HostKeyAlias                     string   // "" none
	StrictHostKeyChecking            string   // yes, no (also for off), ask, accept-new; ask where unset
	HashKnownHosts                   bool
	UpdateHostKeys                   string // yes, no, ask
	CheckHostIP                      bool
	NoHostAuthenticationForLocalhost bool

	// Algorithm lists as the +, - and ^ forms left them; nil where unset.
	HostKeyAlgorithms, KexAlgorithms, Ciphers, MACs []string
	// HostKeyAlgorithmsRelative is true where HostKeyAlgorithms was written as a change of the default, by + or -.
	// The order of the list is then not the user's.
	HostKeyAlgorithmsRelative                       bool
	PubkeyAcceptedAlgorithms, CASignatureAlgorithms []string

	PreferredAuthentications     []string // nil where unset
	PubkeyAuthentication         bool     // true where unset, like the next two
	PasswordAuthentication       bool
	KbdInteractiveAuthentication bool
	NumberOfPasswordPrompts      int // 3 where unset
	BatchMode                    bool

	AddressFamily       string        // any, inet, inet6
	BindAddress         string        // "" any
	ConnectTimeout      time.Duration // 0 where unset
	ConnectionAttempts  int           // 1 where unset
	ServerAliveInterval time.Duration // 0 where unset; see ServerAliveSet
	ServerAliveCountMax int           // 3 where unset
	ServerAliveSet      bool          // the user named an interval, perhaps 0
	TCPKeepAlive        bool

	ControlPath string // socket of a ControlMaster; "" none
	Tunnel      bool   // asked for, and not served by us, like the next
	ForwardX11  bool

	// settings holds every keyword that `ssh -G` prints, for WriteTo.
	settings []setting
	// tokens are those of ssh_config(5), for KnownHostsCommand.
	tokens map[byte]string
}

// ExpandTokens expands the tokens of ssh_config(5) and, with a getenv, environment variables of the form ${NAME} in text.
// more holds the values of tokens that the Host does not know, and wins over those that it knows. It is for
// keywords such as KnownHostsCommand, whose tokens speak of the key that a server shows.
func (h *Host) ExpandTokens(text string, more map[byte]string, getenv func(string) string) (string, error) {
	tokens := maps.Clone(h.tokens)
	if tokens == nil { // not made by a Resolver
		tokens = map[byte]string{'h': h.HostName, 'n': h.Alias, 'p': strconv.Itoa(h.Port), 'r': h.User}
	}
	maps.Copy(tokens, more)
	return expand(text, tokens, getenv)
}

// setting is one line of `ssh -G`.
type setting struct{ keyword, value string }

// WriteTo writes the configuration in the format of `ssh -G`: one "keyword value" a line, the
// keyword in lower case, repeated ones in order.
func (h *Host) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for _, s := range h.settings {
		m, err := io.WriteString(w, s.keyword+" "+s.value+"\n")
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
