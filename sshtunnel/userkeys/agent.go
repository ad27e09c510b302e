package userkeys

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

// Agent is a connection to an ssh-agent. The caller must Close it.
type Agent struct {
	// client speaks the agent's protocol over conn. It sends one request at a time.
	client agent.ExtendedAgent
	// conn is the connection to the agent.
	conn io.Closer

	// listed is closed when keys and listErr are set. Nobody may read these two before.
	listed chan struct{}
	// keys is the answer to the request for the list.
	keys []*agent.Key
	// listErr is why there is no such answer.
	listErr error
}

// OpenAgent connects to the agent that h names (ssh_config(5), IdentityAgent), and asks at once for
// the list of its keys. It returns nil without an error if there is no agent to use. ctx bounds the
// call.
func OpenAgent(ctx context.Context, h *sshconfig.Host, getenv func(string) string) (*Agent, error) {
	path := h.IdentityAgent
	if path == "" || path == "SSH_AUTH_SOCK" {
		path = cmp.Or(getenv("SSH_AUTH_SOCK"), defaultAgent)
	}
	if path == "" || strings.EqualFold(path, "none") || !h.PubkeyAuthentication {
		return nil, nil
	}
	conn, err := dialAgent(ctx, path)
	if err != nil {
		return nil, err
	}
	a := &Agent{client: agent.NewClient(conn), conn: conn, listed: make(chan struct{})}
	// An agent may be slow, such as one that is forwarded. The caller can do other work until list.
	go func() { // ends with the answer, or at Close
		defer close(a.listed)
		a.keys, a.listErr = a.client.List()
	}()
	return a, nil
}

// Close ends the connection, and requests that wait for an answer. It may be called concurrently
// with everything else, and on a nil Agent.
func (a *Agent) Close() {
	if a != nil {
		a.conn.Close()
	}
}

// list returns the agent's keys. It waits for the answer to the request that OpenAgent has sent.
func (a *Agent) list() ([]*agent.Key, error) {
	<-a.listed
	return a.keys, a.listErr
}

// agentSigner signs with a key of the agent.
type agentSigner struct {
	// agent holds the private key.
	agent *Agent
	// pub is the key, or a certificate that the agent holds itself.
	pub ssh.PublicKey
	// failed is told why the agent did not sign.
	failed func(error)
}

// PublicKey implements ssh.Signer.
func (s *agentSigner) PublicKey() ssh.PublicKey { return s.pub }

// Algorithms implements ssh.MultiAlgorithmSigner.
func (s *agentSigner) Algorithms() []string { return signatureAlgorithms(s.pub) }

// Sign implements ssh.Signer.
func (s *agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.Algorithms()[0])
}

// SignWithAlgorithm implements ssh.AlgorithmSigner. Without a flag the agent would sign with SHA-1
// (draft-miller-ssh-agent), which servers refuse.
func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	var flags agent.SignatureFlags
	switch algo {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	sig, err := s.agent.client.SignWithFlags(s.pub, data, flags)
	if err != nil {
		s.failed(fmt.Errorf("agent: %w", err))
	}
	return sig, err
}

// addToAgent does AddKeysToAgent for the key of a file that is being used. As with ssh, that is
// done once, and it does not matter if the agent or the person does not want it.
func (c *collector) addToAgent(f *keyFile) {
	add := parseAddKeys(c.Host.AddKeysToAgent)
	if !add.wanted || c.Agent == nil || f.private == nil || f.added {
		return
	}
	// A refusal counts as well: the person is asked once for each key.
	f.added = true
	comment := cmp.Or(f.comment, f.path)
	if add.ask {
		answer, err := c.Ask("add-key", fmt.Sprintf("Add key %s (%s) to agent? ", f.path, display.Printable(comment)), true)
		// Enter alone is a yes here (ask_permission in OpenSSH).
		if answer = strings.TrimSpace(answer); err != nil || answer != "" && !strings.EqualFold(answer, "yes") {
			return
		}
	}
	err := c.Agent.client.Add(agent.AddedKey{
		PrivateKey:       f.private,
		Comment:          comment,
		LifetimeSecs:     add.lifetime,
		ConfirmBeforeUse: add.confirm,
	})
	if err != nil {
		c.Log.Warn("key not added to the agent", "hop", c.Host.Alias, "file", f.path, "err", err)
		return
	}
	c.Log.Info("key added to the agent", "hop", c.Host.Alias, "file", f.path)
}

// addKeys is what AddKeysToAgent asks for.
type addKeys struct {
	// wanted says that the key is to be added at all.
	wanted bool
	// ask the person first.
	ask bool
	// confirm makes the agent ask before each use of the key.
	confirm bool
	// lifetime is in seconds. 0 means that the agent keeps the key.
	lifetime uint32
}

// parseAddKeys takes Host.AddKeysToAgent apart.
func parseAddKeys(s string) addKeys {
	word, rest, _ := strings.Cut(s, " ")
	switch word {
	case "", "no":
		return addKeys{}
	case "yes":
		return addKeys{wanted: true}
	case "ask":
		return addKeys{wanted: true, ask: true}
	}
	a := addKeys{confirm: word == "confirm"}
	if a.confirm {
		word = rest
	}
	seconds, err := strconv.ParseUint(cmp.Or(word, "0"), 10, 32)
	a.lifetime, a.wanted = uint32(seconds), err == nil
	return a
}
