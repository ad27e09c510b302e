package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

const (
	methodPublicKey = "publickey"
	methodKbdInt    = "keyboard-interactive"
	methodPassword  = "password"

	// maxKbdRounds bounds the rounds of one keyboard-interactive exchange, which the server leads.
	maxKbdRounds = 32
	// maxKeyFile is the most that is read of one key or certificate file, in bytes.
	maxKeyFile = 1 << 20
)

// authenticator chooses what to offer to one server next, in the order of OpenSSH's userauth
// (sshconnect2.c). It is used by one handshake, from one goroutine.
type authenticator struct {
	host *Host
	ask  func(Question) (string, error) // already bound to the context; stops the clock

	agent  agent.ExtendedAgent // nil: none
	keys   []*identity         // in order; nil until loaded
	loaded bool
	next   int // of keys

	attempts map[string]int  // password, keyboard-interactive
	over     map[string]bool // methods that are not to be tried again
	partial  int             // partial successes seen

	result AuthError
}

// identity is one key that may be offered.
type identity struct {
	label  string // file or comment, for messages
	signer ssh.Signer
}

func newAuthenticator(h *Host, ask func(Question) (string, error), ag agent.ExtendedAgent, agentErr error) *authenticator {
	a := &authenticator{host: h, ask: ask, agent: ag, attempts: map[string]int{}, over: map[string]bool{}}
	a.result = AuthError{Hop: h.Alias, User: h.User}
	if agentErr != nil {
		a.note(fmt.Sprintf("agent: %v", agentErr))
	}
	return a
}

func (a *authenticator) note(s string) {
	if !slices.Contains(a.result.Notes, s) {
		a.result.Notes = append(a.result.Notes, s)
	}
}

// choose is the ssh.ClientAuthCallback.
func (a *authenticator) choose(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if n := len(c.PartialSuccessMethods); n != a.partial {
		// A step is done; the next one may want another key (pubkey_reset).
		a.partial, a.next = n, 0
	}
	a.result.Methods = c.AllowedMethods
	preferred := a.host.PreferredAuthentications
	if preferred == nil {
		preferred = []string{methodPublicKey, methodKbdInt, methodPassword}
	}
	for _, method := range preferred {
		if !slices.Contains(c.AllowedMethods, method) || a.over[method] {
			continue
		}
		var m ssh.AuthMethod
		switch {
		case method == methodPublicKey && a.host.PubkeyAuthentication:
			m = a.publicKey()
		case method == methodKbdInt && a.host.KbdInteractiveAuthentication:
			m = a.interactive(method)
		case method == methodPassword && a.host.PasswordAuthentication:
			m = a.interactive(method)
		}
		if m != nil {
			return m, nil
		}
	}
	return nil, &a.result
}

// publicKey offers the next key; nil: none is left.
func (a *authenticator) publicKey() ssh.AuthMethod {
	if !a.loaded {
		a.loaded = true
		a.loadKeys()
	}
	if a.next >= len(a.keys) {
		return nil
	}
	id := a.keys[a.next]
	a.next++
	a.tried(fmt.Sprintf("%s %s (%s)", methodPublicKey, fingerprint(id.signer.PublicKey()), id.label))
	// One key a method, so that a key whose passphrase or agent fails does not take the others along.
	return ssh.PublicKeys(id.signer)
}

func (a *authenticator) tried(s string) { a.result.Tried = append(a.result.Tried, s) }

// interactive asks the person; nil: no more attempts are left, or nobody is there.
func (a *authenticator) interactive(method string) ssh.AuthMethod {
	if a.host.BatchMode {
		a.over[method] = true
		a.note("BatchMode forbids to ask for a password")
		return nil
	}
	if a.attempts[method] >= max(1, a.host.NumberOfPasswordPrompts) {
		return nil
	}
	a.attempts[method]++
	if method == methodPassword {
		return ssh.PasswordCallback(func() (string, error) {
			prompt := fmt.Sprintf("%s@%s's password: ", a.host.User, a.host.HostName)
			answer, err := a.question(method, prompt, false)
			if err == nil {
				a.tried(method)
			}
			return answer, err
		})
	}
	rounds := 0
	return ssh.KeyboardInteractive(func(name, instruction string, prompts []string, echos []bool) ([]string, error) {
		if rounds++; rounds > maxKbdRounds {
			a.over[method] = true
			return nil, fmt.Errorf("keyboard-interactive: more than %d rounds", maxKbdRounds)
		}
		if rounds == 1 {
			a.tried(method)
		}
		answers := make([]string, len(prompts))
		head := printable(strings.TrimSpace(name + "\n" + instruction))
		for i, p := range prompts {
			text := fmt.Sprintf("(%s@%s) %s", a.host.User, a.host.HostName, printable(p))
			if i == 0 && head != "" {
				text = head + "\n" + text
			}
			var err error
			if answers[i], err = a.question(method, text, echos[i]); err != nil {
				return nil, err
			}
		}
		return answers, nil
	})
}

// question asks, and remembers when nobody was there.
func (a *authenticator) question(kind, prompt string, echo bool) (string, error) {
	answer, err := a.ask(Question{Hop: a.host.Alias, Kind: kind, Prompt: prompt, Echo: echo})
	if err != nil {
		a.over[kind] = true
		if errors.Is(err, ErrNoPerson) {
			a.result.NeedsPerson = true
		}
		a.note(fmt.Sprintf("%s: %v", kind, err))
	}
	return answer, err
}

// printable removes what could steer a terminal from text of a server.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}

// finish turns the error of a handshake that failed in authentication into an *AuthError, or
// returns nil where the server did not refuse but was lost.
func (a *authenticator) finish(err error) *AuthError {
	r := &a.result
	r.Err = nil
	// x/crypto hides the type of a disconnect message; its text is all there is.
	text := err.Error()
	switch {
	case strings.Contains(text, "Too many authentication failures"):
		r.TooMany = true
	case errors.Is(err, error(r)):
	case strings.Contains(text, "ssh: disconnect, reason 14"), // SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE
		strings.Contains(text, "ssh: unable to authenticate"),
		strings.Contains(text, "too many authentication attempts"):
		r.Err = errors.New(clip(text))
	default:
		return nil
	}
	return r
}

// loadKeys collects the keys in OpenSSH's order (pubkey_prepare): certificates, keys of the agent
// that the configuration lists, other keys of the agent unless IdentitiesOnly, files.
func (a *authenticator) loadKeys() {
	var inAgent []*agent.Key
	if a.agent != nil {
		var err error
		if inAgent, err = a.agent.List(); err != nil {
			a.note(fmt.Sprintf("agent: %v", err))
			a.result.NeedsPerson = true
		} else if len(inAgent) == 0 {
			a.note("the agent holds no keys")
		}
	}
	agentSigner := func(pub ssh.PublicKey) ssh.Signer {
		for _, k := range inAgent {
			if sameKey(k, pub) {
				return &agentSigner{agent: a.agent, pub: pub, failed: func() { a.result.NeedsPerson = true }}
			}
		}
		return nil
	}

	var files []*keyFile
	for _, path := range a.host.IdentityFiles {
		f, err := a.loadKeyFile(path)
		switch {
		case err == nil:
			files = append(files, f)
		case errors.Is(err, fs.ErrNotExist) && !a.host.IdentityFilesSet:
		default:
			a.note(fmt.Sprintf("%s: %v", path, err))
		}
	}
	signerFor := func(pub ssh.PublicKey) ssh.Signer {
		if s := agentSigner(pub); s != nil {
			return s
		}
		for _, f := range files {
			if s := f.signer(a); s != nil && sameKey(f.pub, pub) {
				return s
			}
		}
		return nil
	}

	certFiles, explicit := a.host.CertificateFiles, len(a.host.CertificateFiles) > 0
	if !explicit {
		for _, f := range files {
			certFiles = append(certFiles, strings.TrimSuffix(f.path, ".pub")+"-cert.pub")
		}
	}
	for _, path := range certFiles {
		pub, err := readPublicKey(path)
		cert, ok := pub.(*ssh.Certificate)
		switch {
		case err != nil && explicit:
			a.note(fmt.Sprintf("%s: %v", path, err))
		case err != nil:
		case !ok || cert.CertType != ssh.UserCert:
			a.note(path + ": not a user certificate")
		default:
			s := agentSigner(cert) // the agent may hold the certificate itself
			if s == nil {
				if plain := signerFor(cert.Key); plain != nil {
					s, err = ssh.NewCertSigner(cert, plain)
				}
			}
			if s == nil || err != nil {
				a.note(path + ": no private key for it")
				continue
			}
			a.offer(path, s)
		}
	}
	listed := func(k *agent.Key) *keyFile {
		for _, f := range files {
			if f.pub != nil && sameKey(k, f.pub) {
				return f
			}
		}
		return nil
	}
	for _, k := range inAgent {
		if f := listed(k); f != nil {
			a.offer(f.path, agentSigner(f.pub))
			f.offered = true
		}
	}
	if !a.host.IdentitiesOnly {
		for _, k := range inAgent {
			if pub, err := ssh.ParsePublicKey(k.Blob); err == nil && listed(k) == nil {
				a.offer("agent: "+clip(printable(k.Comment)), agentSigner(pub))
			}
		}
	}
	for _, f := range files {
		if f.offered {
			continue
		}
		if s := f.signer(a); s != nil {
			a.offer(f.path, s)
		} else {
			a.note(f.path + ": a public key that no agent holds the private key of")
		}
	}
}

// offer appends a key unless PubkeyAcceptedAlgorithms forbids it, or the same one is there.
func (a *authenticator) offer(label string, s ssh.Signer) {
	for _, id := range a.keys {
		if sameKey(id.signer.PublicKey(), s.PublicKey()) {
			return
		}
	}
	if accepted := a.host.PubkeyAcceptedAlgorithms; accepted != nil {
		var algos []string
		_, isCert := s.PublicKey().(*ssh.Certificate)
		for _, algo := range signatureAlgorithms(s.PublicKey()) {
			name := algo
			if isCert {
				name = certAlgoOf(algo)
			}
			if slices.Contains(accepted, name) {
				algos = append(algos, algo)
			}
		}
		limited, ok := s.(ssh.AlgorithmSigner)
		if len(algos) == 0 || !ok {
			a.note(label + ": its type is not in PubkeyAcceptedAlgorithms")
			return
		}
		m, err := ssh.NewSignerWithAlgorithms(limited, algos)
		if err != nil {
			a.note(fmt.Sprintf("%s: %v", label, err))
			return
		}
		s = m
	}
	a.keys = append(a.keys, &identity{label: label, signer: s})
}

// signatureAlgorithms are those of a key, or of the key in a certificate, best first.
func signatureAlgorithms(pub ssh.PublicKey) []string {
	if cert, ok := pub.(*ssh.Certificate); ok {
		pub = cert.Key
	}
	if pub.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{pub.Type()}
}

func certAlgoOf(algo string) string {
	if base, ok := strings.CutSuffix(algo, "@openssh.com"); ok { // sk keys
		return base + "-cert-v01@openssh.com"
	}
	return algo + "-cert-v01@openssh.com"
}

// keyFile is an IdentityFile.
type keyFile struct {
	path    string
	pub     ssh.PublicKey
	plain   ssh.Signer // the private key, where it is not encrypted
	locked  []byte     // the private key, encrypted
	offered bool
	lazy    *lockedSigner
}

// signer returns nil for a public key without its private one.
func (f *keyFile) signer(a *authenticator) ssh.Signer {
	switch {
	case f.plain != nil:
		return f.plain
	case f.locked != nil:
		if f.lazy == nil {
			f.lazy = &lockedSigner{auth: a, file: f}
		}
		return f.lazy
	}
	return nil
}

func (a *authenticator) loadKeyFile(path string) (*keyFile, error) {
	f := &keyFile{path: path}
	pem, err := readPrivateKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Only the public half is here: it selects a key of the agent.
		if pub, perr := readPublicKey(path + ".pub"); perr == nil {
			f.pub = pub
			return f, nil
		}
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if missing, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		f.locked, f.pub = pem, missing.PublicKey
		if f.pub == nil { // the older PEM formats do not tell it
			f.pub, _ = readPublicKey(path + ".pub")
		}
		if f.pub == nil {
			return f, f.unlock(a)
		}
		return f, nil
	}
	if err == nil {
		f.plain, f.pub = signer, signer.PublicKey()
		return f, nil
	}
	if pub, _, _, _, perr := ssh.ParseAuthorizedKey(pem); perr == nil {
		f.pub = pub
		return f, nil
	}
	return nil, errors.New(clip(strings.TrimPrefix(err.Error(), "ssh: ")))
}

// unlock asks for the passphrase, as often as for a password.
func (f *keyFile) unlock(a *authenticator) error {
	if a.host.BatchMode {
		a.result.NeedsPerson = true // the agent could sign with it
		return errors.New("encrypted, and BatchMode forbids to ask for the passphrase")
	}
	for range max(1, a.host.NumberOfPasswordPrompts) {
		answer, err := a.ask(Question{Hop: a.host.Alias, Kind: "passphrase", Prompt: fmt.Sprintf("Enter passphrase for key '%s': ", f.path)})
		if err != nil {
			if errors.Is(err, ErrNoPerson) {
				a.result.NeedsPerson = true
			}
			return fmt.Errorf("passphrase: %w", err)
		}
		if answer == "" {
			break // as ssh: go on to the next key
		}
		key, err := ssh.ParsePrivateKeyWithPassphrase(f.locked, []byte(answer))
		if err == nil {
			f.plain, f.pub = key, key.PublicKey()
			return nil
		}
	}
	return errors.New("passphrase not right")
}

// lockedSigner asks for the passphrase of a key at its first signature, that is, only after the
// server has accepted the key.
type lockedSigner struct {
	auth *authenticator
	file *keyFile
}

func (s *lockedSigner) PublicKey() ssh.PublicKey { return s.file.pub }
func (s *lockedSigner) Algorithms() []string     { return signatureAlgorithms(s.file.pub) }

func (s *lockedSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.Algorithms()[0])
}

func (s *lockedSigner) SignWithAlgorithm(rand io.Reader, data []byte, algo string) (*ssh.Signature, error) {
	if s.file.plain == nil {
		if err := s.file.unlock(s.auth); err != nil {
			s.auth.note(fmt.Sprintf("%s: %v", s.file.path, err))
			return nil, err
		}
	}
	plain, ok := s.file.plain.(ssh.AlgorithmSigner)
	if !ok {
		return s.file.plain.Sign(rand, data)
	}
	return plain.SignWithAlgorithm(rand, data, algo)
}

// agentSigner signs with a key of the agent.
type agentSigner struct {
	agent  agent.ExtendedAgent
	pub    ssh.PublicKey
	failed func() // the agent did not sign: it may have wanted a person's confirmation
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
		s.failed()
	}
	return sig, err
}

// readPrivateKey refuses a key file that others may read, as ssh does (sshkey_perm_ok).
func readPrivateKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, bare(err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, bare(err)
	}
	private := strings.Contains(string(b), "PRIVATE KEY")
	if private && runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("its mode %#o lets others read it: chmod 600 %s", st.Mode().Perm(), shellQuote(path))
	}
	return b, nil
}

func readPublicKey(path string) (ssh.PublicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, bare(err)
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(b)
	if err != nil {
		return nil, errors.New("no public key in it")
	}
	return pub, nil
}

// bare drops operation and path, which the caller names.
func bare(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// openAgent connects to the agent of h; nil without an error where there is none to use.
func openAgent(ctx context.Context, h *Host, getenv func(string) string) (agent.ExtendedAgent, io.Closer, error) {
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
