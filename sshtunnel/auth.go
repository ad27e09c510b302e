package sshtunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

const (
	methodNone      = "none"
	methodPublicKey = "publickey"
	methodKbdInt    = "keyboard-interactive"
	methodPassword  = "password"

	// maxKbdRounds bounds the rounds of one keyboard-interactive exchange. The server decides how
	// many there are.
	maxKbdRounds = 32
)

// authenticator chooses what to offer to one server next, in the order of OpenSSH's userauth
// (sshconnect2.c). One handshake uses it, from one goroutine.
type authenticator struct {
	host *sshconfig.Host
	// ask puts a question to the person within the context of the dial.
	ask func(Question) (string, error)
	// patience shows the person what the server says, and lets the login take its time.
	patience *patience
	// spare returns an error if a ControlMaster takes the place of this login, which would need a
	// person from here on. Nothing is to be tried then.
	spare func() error
	trace *Trace
	// source is where the keys come from. keyConfig completes it.
	source userkeys.Config

	// keys are those that may be offered, in order. They are nil until they are collected.
	keys []userkeys.Key
	// next is the index of the key to offer next.
	next int

	// attempts counts the tries with password and with keyboard-interactive.
	attempts map[string]int
	// over has the methods that are not to be tried again.
	over map[string]bool
	// rounds counts the rounds of the latest try with keyboard-interactive.
	rounds int
	// partial counts the methods that the server has accepted as a part of what it wants.
	partial int

	// try is the try that is under way. It is nil if none is.
	try *AuthInfo
	// tryErr is why the server cannot decide about try, such as a passphrase that nobody gave.
	tryErr error

	// result is the error of the login if it fails.
	result AuthError
}

// newAuthenticator makes one for the login of d, which ctx bounds.
func newAuthenticator(ctx context.Context, d *dialer) *authenticator {
	a := &authenticator{
		host:     d.host,
		ask:      func(q Question) (string, error) { return d.ask(ctx, q) },
		patience: d.patience,
		spare:    func() error { return d.spare(ctx, true) },
		trace:    d.cfg.Trace,
		source:   userkeys.Config{Context: ctx, Host: d.host, Agent: d.prepared.agent, Getenv: d.cfg.Getenv, Log: d.cfg.Log, Wait: d.wait},
		attempts: map[string]int{},
		over:     map[string]bool{},
		result:   AuthError{Hop: d.host.Alias, User: d.host.User},
	}
	if d.prepared.agentErr != nil {
		a.agentFailed(d.prepared.agentErr)
	}
	return a
}

// agentFailed notes that the agent was of no use. A person may repair it.
func (a *authenticator) agentFailed(err error) {
	a.result.NeedsPerson = true
	a.result.Agent, _ = errors.AsType[*userkeys.AgentError](err)
	a.note(err.Error())
}

// begin notes a try whose outcome is not known yet.
func (a *authenticator) begin(try AuthInfo) {
	try.Hop = a.host.Alias
	a.try, a.tryErr = &try, nil
}

// conclude tells the trace the outcome of the try that is under way, if one is.
func (a *authenticator) conclude(outcome string, err error) {
	if a.try == nil {
		return
	}
	if outcome == AuthRefused && a.tryErr != nil {
		outcome, err = AuthFailed, a.tryErr
	}
	a.try.Outcome, a.try.Err = outcome, err
	a.trace.authTried(*a.try)
	a.try = nil
}

// accepted notes that the server has let us in.
func (a *authenticator) accepted() {
	if a.try == nil {
		a.begin(AuthInfo{Method: methodNone})
	}
	a.conclude(AuthAccepted, nil)
}

// note adds to the error why something could not be offered.
func (a *authenticator) note(s string) {
	if !slices.Contains(a.result.Notes, s) {
		a.result.Notes = append(a.result.Notes, s)
	}
}

// choose returns what to offer next. It is an ssh.ClientAuthCallback. If nothing is left, the error
// is an *AuthError.
func (a *authenticator) choose(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	if n := len(c.PartialSuccessMethods); n != a.partial {
		a.conclude(AuthPartial, nil)
		a.partial, a.next = n, 0 // the next step may want another key (pubkey_reset)
		a.patience.waitForPerson()
	}
	a.explainNotSent()
	a.conclude(AuthRefused, nil)
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
	a.explain(c.AllowedMethods)
	return nil, &a.result
}

// explain notes why the methods that the server would still take are of no use.
func (a *authenticator) explain(allowed []string) {
	for _, method := range allowed {
		var keyword string // the one that turns the method off
		switch {
		case method == methodPublicKey && !a.host.PubkeyAuthentication:
			keyword = "PubkeyAuthentication"
		case method == methodKbdInt && !a.host.KbdInteractiveAuthentication:
			keyword = "KbdInteractiveAuthentication"
		case method == methodPassword && !a.host.PasswordAuthentication:
			keyword = "PasswordAuthentication"
		case method == methodPublicKey || method == methodKbdInt || method == methodPassword:
			if p := a.host.PreferredAuthentications; p != nil && !slices.Contains(p, method) {
				a.note(fmt.Sprintf("PreferredAuthentications does not list %s", method))
			}
			continue
		case method == "gssapi-with-mic" || method == "gssapi-keyex":
			a.note(method + " (GSSAPI, Kerberos) is not supported")
			continue
		default:
			a.note(fmt.Sprintf("%q is not supported", display.Cut(method)))
			continue
		}
		a.note(fmt.Sprintf("%s is off, which rules out %s", keyword, method))
	}
}

// publicKey returns a method that offers the next key, or nil if no key is left.
func (a *authenticator) publicKey() ssh.AuthMethod {
	if a.keys == nil {
		a.keys = append([]userkeys.Key{}, userkeys.Collect(a.keyConfig())...)
	}
	k, ok := a.nextKey()
	if !ok {
		return nil
	}
	a.begin(keyInfo(k))
	a.tryErr = errNotSent
	// x/crypto gives a method up when one of its keys fails to sign. So each key is a method of its
	// own.
	signers := []ssh.Signer{userkeys.Watch(a.patiently(k.Signer), func() {
		if a.tryErr == errNotSent {
			a.tryErr = nil
			a.triedKey()
		}
	})}
	if a.next > maxSingly {
		signers = append(signers, a.inBulk()...)
	}
	return ssh.PublicKeys(signers...)
}

// maxSingly is how many keys are offered one by one. x/crypto ends a login after 64 methods.
const maxSingly = 32

// inBulk returns the keys that follow, up to one that needs a method of its own: one that has to be
// opened, a certificate, or an RSA key, which may not be sent. The next key to offer is the one
// after that which was sent last.
func (a *authenticator) inBulk() (signers []ssh.Signer) {
	for i := a.next; i < len(a.keys); i++ {
		k := a.keys[i]
		if k.Signer == nil || hostkeys.IsCertificateAlgorithm(k.Signer.PublicKey().Type()) || strings.Contains(k.Signer.PublicKey().Type(), "rsa") {
			break
		}
		signers = append(signers, userkeys.Watch(a.patiently(k.Signer), func() {
			if a.next <= i {
				a.explainNotSent()
				a.conclude(AuthRefused, nil)
				a.begin(keyInfo(k))
				a.triedKey()
				a.next = i + 1
			}
		}))
	}
	return signers
}

// keyInfo describes the try of a key.
func keyInfo(k userkeys.Key) AuthInfo {
	return AuthInfo{Method: methodPublicKey, Fingerprint: hostkeys.Fingerprint(k.Signer.PublicKey()), Source: k.Label, Agent: k.InAgent}
}

// triedKey notes that the key of the try was offered.
func (a *authenticator) triedKey() {
	a.tried(fmt.Sprintf("%s %s (%s)", methodPublicKey, a.try.Fingerprint, a.try.Source))
}

// errNotSent is the error of a key that x/crypto has not sent, because it found no algorithm for
// it. That happens with RSA keys only, where the server does not know SHA-2 (RFC 8332).
var errNotSent = errors.New("the server knows SHA-1 only for RSA keys, which PubkeyAcceptedAlgorithms does not allow")

// explainNotSent notes that a key was not sent, and what sends it.
func (a *authenticator) explainNotSent() {
	if a.try != nil && a.tryErr == errNotSent {
		a.note(fmt.Sprintf("%s: %v; PubkeyAcceptedAlgorithms +ssh-rsa does, for this host, or take a key of another type", a.try.Source, errNotSent))
	}
}

// nextKey returns the next key that may be offered. ok is false if none is left.
func (a *authenticator) nextKey() (k userkeys.Key, ok bool) {
	for a.next < len(a.keys) && !ok {
		k, ok = a.keys[a.next].Open()
		a.keys[a.next] = k // a key that was opened stays open
		a.next++
	}
	return k, ok
}

// keyConfig says which keys to collect, and how they report to a.
func (a *authenticator) keyConfig() userkeys.Config {
	c := a.source
	c.Ask = func(kind, prompt string, echo bool) (string, error) {
		return a.ask(Question{Hop: a.host.Alias, Kind: kind, Prompt: prompt, Echo: echo})
	}
	c.Note = a.note
	c.AgentFailed = a.agentFailed
	c.NeedsPerson = func() { a.result.NeedsPerson = true }
	c.SignFailed = func(err error) {
		a.tryErr = err
		if e, ok := errors.AsType[*userkeys.AgentError](err); ok {
			a.agentFailed(e)
		}
	}
	return c
}

// keyRefused reports whether the server has refused a key.
func (a *authenticator) keyRefused() bool {
	return slices.ContainsFunc(a.result.Tried, func(s string) bool { return strings.HasPrefix(s, methodPublicKey+" ") })
}

func (a *authenticator) tried(s string) { a.result.Tried = append(a.result.Tried, s) }

// interactive returns a method that asks the person, or nil if no try is left or none may be made.
func (a *authenticator) interactive(method string) ssh.AuthMethod {
	if a.attempts[method] < a.host.NumberOfPasswordPrompts && a.spare() != nil {
		return nil
	}
	if a.host.BatchMode {
		a.over[method] = true
		a.note("BatchMode forbids asking for a password")
		return nil
	}
	if a.attempts[method] >= a.host.NumberOfPasswordPrompts {
		return nil
	}
	if method == methodKbdInt && a.attempts[method] > 0 && a.rounds == 0 {
		return nil // the server asked nothing last time, and will ask nothing this time
	}
	a.attempts[method]++
	a.begin(AuthInfo{Method: method})
	at := a.host.User + "@" + cmp.Or(a.host.HostKeyAlias, a.host.HostName)
	if method == methodPassword {
		return a.password(at)
	}
	a.rounds = 0
	a.patience.tookPart()
	a.patience.waitForPerson() // PAM may send a push before its first question, or without one
	return ssh.KeyboardInteractive(func(name, instruction string, prompts []string, echos []bool) ([]string, error) {
		return a.round(at, strings.TrimSpace(name+"\n"+instruction), prompts, echos)
	})
}

// password returns a method that asks for the password of at, which is user@host.
func (a *authenticator) password(at string) ssh.AuthMethod {
	prompt := at + "'s password: "
	if a.attempts[methodPassword] > 1 {
		prompt = "Permission denied, please try again.\n" + prompt
	}
	return ssh.PasswordCallback(func() (string, error) {
		answer, err := a.question(methodPassword, prompt, false)
		if err == nil {
			a.tried(methodPassword)
			a.patience.waitForPerson() // PAM may send a push now
		}
		return answer, err
	})
}

// round asks the questions of one round of keyboard-interactive (RFC 4256). Each question begins
// with at, which is user@host. The first one comes after the server's introduction.
func (a *authenticator) round(at, introduction string, prompts []string, echos []bool) ([]string, error) {
	if a.rounds++; a.rounds > maxKbdRounds {
		a.over[methodKbdInt] = true
		a.tryErr = fmt.Errorf("keyboard-interactive: more than %d rounds", maxKbdRounds)
		return nil, a.tryErr
	}
	if introduction != "" {
		a.said(introduction)
	}
	if introduction != "" && len(prompts) == 0 {
		a.patience.tell(introduction)
	}
	answers := make([]string, len(prompts))
	for i, p := range prompts {
		text := fmt.Sprintf("(%s) %s", at, display.Printable(p))
		if i == 0 && introduction != "" {
			text = display.Printable(introduction) + "\n" + text
		}
		var err error
		if answers[i], err = a.question(methodKbdInt, text, echos[i]); err != nil {
			return nil, err
		}
	}
	if a.rounds == 1 { // without an answer nothing was tried
		a.tried(methodKbdInt)
	}
	return answers, nil
}

// said keeps what the server has said last, which may be why it refuses.
func (a *authenticator) said(text string) {
	text = strings.Join(strings.Fields(display.Printable(strings.ToValidUTF8(text, "?"))), " ")
	if text != "" {
		a.result.Said = display.Cut(text)
	}
}

// patientSigner stops the clock of ConnectTimeout while it signs, because the agent or a security
// key may wait for the person. The clock does not run on after a signature: the server knows the
// key, and the rest of its rules may need a person, too (PAM's account management).
type patientSigner struct {
	ssh.MultiAlgorithmSigner
	a *authenticator
}

// patiently makes a patientSigner of s.
func (a *authenticator) patiently(s ssh.Signer) ssh.Signer {
	if m, ok := s.(ssh.MultiAlgorithmSigner); ok {
		return patientSigner{m, a}
	}
	return s
}

// begin is called before a signature. A security key waits for a touch, which the user's
// ControlMaster may spare.
func (s patientSigner) begin() error {
	if strings.HasPrefix(hostkeys.PlainKey(s.PublicKey()).Type(), "sk-") {
		if err := s.a.spare(); err != nil {
			s.a.tryErr = err
			return err
		}
	}
	s.a.patience.waitForPerson()
	return nil
}

// Sign implements ssh.Signer.
func (s patientSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.a.patience.signing()()
	return s.MultiAlgorithmSigner.Sign(rand, data)
}

// SignWithAlgorithm implements ssh.AlgorithmSigner.
func (s patientSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.a.patience.signing()()
	return s.MultiAlgorithmSigner.SignWithAlgorithm(rand, data, algorithm)
}

// question asks the person. After an error the method is not tried again.
func (a *authenticator) question(kind, prompt string, echo bool) (string, error) {
	answer, err := a.ask(Question{Hop: a.host.Alias, Kind: kind, Prompt: prompt, Echo: echo})
	if err != nil {
		a.over[kind], a.tryErr = true, err
		// A server that has refused a key may not know the user, and another try would be one more
		// failed login there. Only a person at a terminal decides about that.
		if errors.Is(err, ErrNoPerson) && (a.partial > 0 || !a.keyRefused()) {
			a.result.NeedsPerson = true
		}
		a.note(fmt.Sprintf("%s: %v", kind, err))
	}
	return answer, err
}

// refusal turns the error of a handshake that failed in authentication into an *AuthError. It
// returns nil if the server did not refuse but was lost.
func (a *authenticator) refusal(err error) *AuthError {
	r := &a.result
	r.Err = nil
	// x/crypto hides the type of a disconnect message, so its text has to tell.
	text := err.Error()
	switch {
	case strings.Contains(strings.ToLower(text), "too many authentication failures"):
		r.TooMany = true
	case errors.Is(err, error(r)):
	case strings.Contains(text, "ssh: disconnect, reason 14"), // SSH_DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE
		strings.Contains(text, "ssh: unable to authenticate"),
		strings.Contains(text, "too many authentication attempts"):
		r.Err = errors.New(display.Cut(text))
	default:
		return nil
	}
	return r
}
