package sshtunnel

import (
	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/cleartext"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// EncodeError returns an error of a Tunnel as it travels from the shared connection to its clients
// (package mux). The hops are the aliases that the server's greeting names. It returns nil for nil.
func EncodeError(err error, hops []string) *mux.Error { return wireErrors.Encode(err, hops) }

// DecodeError rebuilds an error of the shared connection. It has the type, the fields and the words
// that it would have had in this process, and errors.Is and errors.As find in it what they find in
// the original. The hops are the aliases of this process, in the order of the chain. They replace
// those of the server. It returns nil for nil.
func DecodeError(e *mux.Error, hops []string) error { return wireErrors.Decode(e, hops) }

// wireErrors knows the errors of this package, of those below it, and of x/crypto.
//
// errLost of a server is errLost here: the tunnel gives up its link to the server and makes the
// call again on the next one. So a server sends it only if it has no link that could serve the
// call. While it has one, it makes the call again itself.
//
// The other errors that are private to these packages travel as words and causes, because nothing
// outside of their files asks for them.
var wireErrors = &mux.Codec{
	Types: []mux.Type{
		mux.TypeOf("hop", func(e *HopError) mux.Parts {
			return mux.Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("timeout", func(e *TimeoutError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("silent", func(e *SilentError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("auth", func(e *AuthError) mux.Parts {
			p := mux.Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
			if e.Agent != nil {
				p.Causes = append(p.Causes, &e.Agent.Err)
			}
			return p
		}),
		mux.TypeOf("agent", func(e *userkeys.AgentError) mux.Parts {
			return mux.Parts{Fields: e, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("host_key", func(e *hostkeys.Error) mux.Parts {
			return mux.Parts{Fields: e, Hop: &e.Hop, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("open", func(e *OpenError) mux.Parts { return mux.Parts{Fields: e, Hop: &e.Hop} }),
		mux.TypeOf("listen", func(e *ListenError) mux.Parts { return mux.Parts{Fields: e, Hop: &e.Hop} }),
		mux.TypeOf("exit", func(e *ExitError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("algorithm", func(e *AlgorithmError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("identification", func(e *cleartext.IdentificationError) mux.Parts { return mux.Parts{Fields: e} }),
		mux.TypeOf("proxy_command", func(e *ProxyCommandError) mux.Parts {
			return mux.Parts{Fields: e, Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("ssh_config", func(e *sshconfig.Error) mux.Parts { return mux.Parts{Fields: e} }),

		mux.TypeOf("ssh_open", func(e *ssh.OpenChannelError) mux.Parts { return mux.Parts{Fields: (*sshOpenFields)(e)} }),
		mux.TypeOf("ssh_algorithm", func(e *ssh.AlgorithmNegotiationError) mux.Parts {
			return mux.Parts{Fields: (*sshAlgorithmFields)(e)}
		}),
		mux.TypeOf("ssh_banner", func(e *ssh.BannerError) mux.Parts {
			return mux.Parts{Fields: (*sshBannerFields)(e), Causes: []*error{&e.Err}}
		}),
		mux.TypeOf("ssh_exit_missing", func(e *ssh.ExitMissingError) mux.Parts { return mux.Parts{Fields: e} }),
	},
	Sentinels: map[string]error{
		"no_person":     ErrNoPerson,
		"tunnel_closed": ErrClosed,
		"link_lost":     errLost,
		"abandoned":     errAbandoned,
		"no_auth":       ssh.ErrNoAuth,
	},
}

// The types of x/crypto with tags. The compiler sees to it that their fields are the same.
type (
	sshOpenFields struct {
		Reason  ssh.RejectionReason `json:"reason,omitempty"`
		Message string              `json:"message,omitempty"`
	}
	sshAlgorithmFields struct {
		What                string   `json:"what,omitempty"`
		RequestedAlgorithms []string `json:"requested,omitempty"`
		SupportedAlgorithms []string `json:"supported,omitempty"`
	}
	sshBannerFields struct {
		Err     error  `json:"-"`
		Message string `json:"message,omitempty"`
	}
)
