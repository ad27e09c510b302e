package sshtunnel

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
)

// openAgent connects to the agent of h; nil without an error where there is none to use.
func openAgent(ctx context.Context, h *sshconfig.Host, getenv func(string) string) (agent.ExtendedAgent, io.Closer, error) {
	path := h.IdentityAgent
	if path == "" || path == "SSH_AUTH_SOCK" {
		path = getenv("SSH_AUTH_SOCK")
		if path == "" {
			path = defaultAgent
		}
	}
	if path == "" || strings.EqualFold(path, "none") || !h.PubkeyAuthentication {
		return nil, nil, nil
	}
	conn, err := dialAgent(ctx, path)
	if err != nil {
		return nil, nil, err
	}
	return agent.NewClient(conn), conn, nil
}

// agentSigner signs with a key of the agent.
type agentSigner struct {
	agent  agent.ExtendedAgent
	pub    ssh.PublicKey
	failed func(error) // is told why the agent did not sign
}

func (s *agentSigner) PublicKey() ssh.PublicKey { return s.pub }
func (s *agentSigner) Algorithms() []string     { return signatureAlgorithms(s.pub) }

func (s *agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.Algorithms()[0])
}

func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algo {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	sig, err := s.agent.SignWithFlags(s.pub, data, flags)
	if err != nil {
		s.failed(err)
	}
	return sig, err
}

// addToAgent does AddKeysToAgent for the key of a file that has just been used, as ssh does: once,
// and without harm where the agent or the person does not want it.
func (a *authenticator) addToAgent(f *keyFile) {
	confirm, life, ask, ok := addOptions(a.host.AddKeysToAgent)
	if !ok || a.agent == nil || f.private == nil || f.added {
		return
	}
	f.added = true
	comment := cmp.Or(f.comment, f.path)
	if ask {
		answer, err := a.ask(Question{Hop: a.host.Alias, Kind: "add-key", Echo: true,
			Prompt: fmt.Sprintf("Add key %s (%s) to agent? ", f.path, display.Printable(comment))})
		// Enter alone is a yes here (ask_permission).
		if answer = strings.TrimSpace(answer); err != nil || answer != "" && !strings.EqualFold(answer, "yes") {
			return
		}
	}
	err := a.agent.Add(agent.AddedKey{PrivateKey: f.private, Comment: comment, LifetimeSecs: life, ConfirmBeforeUse: confirm})
	if err != nil {
		a.log.Warn("key not added to the agent", "hop", a.host.Alias, "file", f.path, "err", err)
		return
	}
	a.log.Info("key added to the agent", "hop", a.host.Alias, "file", f.path)
}

// addOptions takes Host.AddKeysToAgent apart; life is in seconds, 0 for ever.
func addOptions(s string) (confirm bool, life uint32, ask, ok bool) {
	word, rest, _ := strings.Cut(s, " ")
	switch word {
	case "", "no":
		return false, 0, false, false
	case "yes":
		return false, 0, false, true
	case "ask":
		return false, 0, true, true
	case "confirm":
		confirm, word = true, rest
	}
	seconds, err := strconv.ParseUint(cmp.Or(word, "0"), 10, 32)
	return confirm, uint32(seconds), false, err == nil
}
