package userkeys

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
)

// These numbers are those of OpenSSH's ssh-sk.h and sk-api.h.
const (
	skHelperVersion = 5
	skHelperError   = 0
	skHelperSign    = 1

	// skTouch and skVerify are flags of a key: the person has to touch the token, or to verify to
	// it who they are.
	skTouch  = 0x01
	skVerify = 0x04

	// maxSKAnswer bounds the answer of ssh-sk-helper, in bytes (ssh_msg_recv of OpenSSH).
	maxSKAnswer = 256 << 10
)

// These are errors of ssherr.h that ssh-sk-helper answers with.
const (
	skFailed          = 4
	skPINRequired     = 43
	skUnsupported     = 59
	skDeviceNotFound  = 60
	skUnsupportedType = 14
)

// securityKey is a key of a FIDO token, as its file describes it (PROTOCOL.u2f of OpenSSH).
type securityKey struct {
	// text is the key in the form that ssh-sk-helper takes.
	text []byte
	// flags are skTouch and others.
	flags byte
}

// parseHandle reads what a file has in the place of a private key: type, public key, application,
// flags, handle, a reserved field, and then a comment and padding.
func parseHandle(handle []byte) (k securityKey, ok bool) {
	r := &skReader{rest: handle}
	typ := string(r.string())
	r.string() // the curve of ECDSA, the public key of Ed25519
	if typ == ssh.KeyAlgoSKECDSA256 {
		r.string() // the public key
	} else if typ != ssh.KeyAlgoSKED25519 {
		return k, false
	}
	r.string() // the application
	if flags := r.take(1); flags != nil {
		k.flags = flags[0]
	}
	r.string() // the handle of the key
	r.string() // reserved
	k.text = handle[:len(handle)-len(r.rest)]
	return k, !r.short
}

// skReader takes values off the front of a text.
type skReader struct {
	rest []byte
	// short is set when there were not enough bytes.
	short bool
}

func (r *skReader) take(n uint32) []byte {
	if r.short || uint32(len(r.rest)) < n {
		r.short = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *skReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *skReader) string() []byte { return r.take(r.uint32()) }

// skProvider returns the middleware that SecurityKeyProvider names, and "" if there is none. What
// is built into OpenSSH is called internal.
func (c *collector) skProvider() string {
	getenv := c.Getenv
	if getenv == nil {
		getenv = func(string) string { return "" }
	}
	provider := c.Host.SecurityKeyProvider
	switch {
	case provider == "":
		return cmp.Or(getenv("SSH_SK_PROVIDER"), "internal")
	case strings.EqualFold(provider, "none"):
		return ""
	case provider[0] == '$' && len(provider) > 1:
		return getenv(provider[1:])
	}
	return provider
}

// skHelper returns the path of ssh-sk-helper, and "" if it is not there. It lies in a directory
// that was chosen when OpenSSH was built.
func (c *collector) skHelper() string {
	if c.Getenv != nil {
		if path := c.Getenv("SSH_SK_HELPER"); path != "" {
			return path
		}
	}
	dirs := c.helperDirs
	if dirs == nil {
		dirs = helperDirs()
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "ssh-sk-helper")
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// helperDirs returns where builds of OpenSSH put ssh-sk-helper: first near the ssh of PATH.
func helperDirs() (dirs []string) {
	if program, err := exec.LookPath("ssh"); err == nil {
		if real, err := filepath.EvalSymlinks(program); err == nil {
			prefix := filepath.Dir(filepath.Dir(real))
			for _, dir := range []string{"libexec", "libexec/openssh", "lib/openssh", "lib/ssh"} {
				dirs = append(dirs, filepath.Join(prefix, dir))
			}
		}
	}
	return append(dirs, "/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib/ssh", "/usr/lib/misc", "/usr/local/libexec")
}

// skSigner signs with a token by way of OpenSSH's ssh-sk-helper.
type skSigner struct {
	// collector has the functions to ask and to report.
	collector *collector
	// file is the key.
	file *keyFile
	// helper and provider are paths.
	helper, provider string
}

// skSignerOf returns a signer for a file of a security key. It returns nil if there is no way to
// the token; useless then says so.
func (c *collector) skSignerOf(f *keyFile) ssh.Signer {
	helper, provider := c.skHelper(), c.skProvider()
	switch {
	case provider == "":
		f.broken = errors.New("a security key (FIDO), and SecurityKeyProvider is none")
	case helper == "":
		f.broken = errors.New("a security key (FIDO), and OpenSSH's ssh-sk-helper, which reaches it, is not installed: ssh-add FILE where it is, or set SSH_SK_HELPER")
	default:
		return &skSigner{collector: c, file: f, helper: helper, provider: provider}
	}
	return nil
}

// PublicKey implements ssh.Signer.
func (s *skSigner) PublicKey() ssh.PublicKey { return s.file.pub }

// Algorithms implements ssh.MultiAlgorithmSigner.
func (s *skSigner) Algorithms() []string { return signatureAlgorithms(s.file.pub) }

// Sign implements ssh.Signer. The server has accepted the key when it is called.
func (s *skSigner) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	sig, err := s.sign(data)
	if err != nil {
		s.collector.Note(fmt.Sprintf("%s: %s", s.file.path, s.file.explain(err)))
		s.collector.SignFailed(err)
	}
	return sig, err
}

// SignWithAlgorithm implements ssh.AlgorithmSigner. A token has one algorithm.
func (s *skSigner) SignWithAlgorithm(rand io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return s.Sign(rand, data)
}

// sign asks for what is needed: the passphrase of the file, a touch, and the PIN of the token, if
// it wants one.
func (s *skSigner) sign(data []byte) (*ssh.Signature, error) {
	if s.file.private.unseal != nil {
		if err := s.file.unlock(s.collector); err != nil {
			return nil, err
		}
	}
	key, ok := parseHandle(s.file.private.handle)
	if !ok {
		return nil, errDamaged
	}
	sig, err := s.attempt(key, data, "")
	if fault, ok := errors.AsType[skError](err); !ok || fault != skPINRequired {
		return sig, err
	}
	c := s.collector
	if c.Host.BatchMode {
		c.NeedsPerson()
		return nil, errors.New("the token wants a PIN, and BatchMode forbids asking for it")
	}
	pin, err := c.Ask("passphrase", fmt.Sprintf("Enter PIN for %s key %s: ", skKind(s.file.pub), s.file.path), false)
	if err != nil {
		if errors.Is(err, hostkeys.ErrNoPerson) {
			c.NeedsPerson()
		}
		return nil, fmt.Errorf("PIN: %w", err)
	}
	return s.attempt(key, data, pin)
}

// skKind returns what ssh calls the type of a key of a token.
func skKind(pub ssh.PublicKey) string {
	if hostkeys.PlainKey(pub).Type() == ssh.KeyAlgoSKECDSA256 {
		return "ECDSA-SK"
	}
	return "ED25519-SK"
}

// attempt has the token sign. The person is told to touch it, as ssh does it.
func (s *skSigner) attempt(key securityKey, data []byte, pin string) (*ssh.Signature, error) {
	c := s.collector
	if key.flags&skTouch != 0 {
		defer c.wait(Wait{Certain: true, Text: fmt.Sprintf("Confirm user presence for key %s %s", skKind(s.file.pub), hostkeys.Fingerprint(s.file.pub))})()
	}
	ctx := c.Context
	if ctx == nil {
		ctx = context.Background()
	}
	blob, err := runSKHelper(ctx, s.helper, skRequest(s.provider, key.text, data, pin))
	if err != nil {
		return nil, err
	}
	var sig ssh.Signature
	if ssh.Unmarshal(blob, &sig) != nil || sig.Format != s.file.pub.Type() {
		return nil, skError(skFailed)
	}
	return &sig, nil
}

// skRequest returns a request to sign, as ssh-sk-helper wants it (client_converse and sshsk_sign of
// OpenSSH).
func skRequest(provider string, key, data []byte, pin string) []byte {
	body := ssh.Marshal(struct {
		Type        uint32
		LogOnStderr byte
		LogLevel    uint32
		Key         []byte
		Provider    string
		Data        []byte
		Algorithm   string
		Compat      uint32
		PIN         string
	}{skHelperSign, 0, 0, key, provider, data, "", 0, pin})
	message := binary.BigEndian.AppendUint32(nil, uint32(1+len(body)))
	return append(append(message, skHelperVersion), body...)
}

// runSKHelper runs ssh-sk-helper for one request, and returns the signature. ctx bounds the run.
func runSKHelper(ctx context.Context, helper string, request []byte) ([]byte, error) {
	cmd := exec.CommandContext(ctx, helper)
	var answer, stderr limitedBuffer
	answer.limit, stderr.limit = maxSKAnswer, display.Limit
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &answer, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r := &skReader{rest: answer.text}
	r = &skReader{rest: r.string(), short: r.short}
	version := r.take(1)
	kind := r.uint32()
	switch {
	case r.short && err != nil:
		return nil, fmt.Errorf("%s: %w: %s; ssh-add FILE hands the key to the agent", helper, err, display.Cut(display.Printable(strings.TrimSpace(string(stderr.text)))))
	case r.short || version[0] != skHelperVersion:
		return nil, fmt.Errorf("%s does not speak version %d of its protocol; ssh-add FILE hands the key to the agent", helper, skHelperVersion)
	case kind == skHelperError:
		return nil, skError(r.uint32())
	case kind != skHelperSign:
		return nil, skError(skFailed)
	}
	blob := r.string()
	if r.short {
		return nil, skError(skFailed)
	}
	return blob, nil
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct {
	text  []byte
	limit int
}

// Write never fails.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), b.limit-len(b.text))]...)
	return len(p), nil
}

// skError is the number of an error of ssherr.h, without its sign.
type skError uint32

// Error says what the token or its middleware did not do.
func (e skError) Error() string {
	switch e {
	case skPINRequired:
		return "the token did not accept the PIN"
	case skUnsupported, skUnsupportedType:
		return "the middleware of OpenSSH cannot use this key; set SecurityKeyProvider, or ssh-add FILE"
	case skDeviceNotFound:
		return "the token of this key is not plugged in"
	case skFailed:
		return "the token did not sign: it was not touched in time, it does not hold this key, or SecurityKeyProvider is not right"
	}
	return fmt.Sprintf("the token did not sign (error %d of ssh-sk-helper)", uint32(e))
}
