package userkeys

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/hostkeys"
)

// collector finds the keys that may be offered to one server.
type collector struct {
	Config
	// inAgent holds the keys of the agent that are long enough.
	inAgent []*agent.Key
	// files holds the files of IdentityFile that could be read.
	files []*keyFile
	// keys are those to offer, in order, and seen are their public keys in wire format.
	keys []Key
	seen map[string]bool
}

// Collect returns the keys that may be offered, in the order of OpenSSH 10.6 (pubkey_prepare):
// those of CertificateFile, keys of the agent that the configuration lists, other keys of the agent
// unless IdentitiesOnly, files. A certificate beside a file follows that file. Where the person has
// not given the order, certificates go first, those of security keys that need no touch before all.
// It leaves out what PubkeyAcceptedAlgorithms and RequiredRSASize forbid. It waits for the agent's
// list, and asks nothing. What it leaves out and why goes to Note.
func Collect(cfg Config) []Key {
	c := &collector{Config: cfg, seen: map[string]bool{}}
	c.inAgent = c.agentKeys()
	files := c.identities()
	for _, id := range c.certificates() {
		c.offer(id)
	}
	for _, id := range c.fromAgent(&files) {
		c.offer(id)
	}
	sortByPriority(files)
	for _, id := range files {
		c.offer(id)
	}
	return c.keys
}

// identity is one entry of the list that is offered.
type identity struct {
	// label is the file that names the key, or "agent: " and the key's comment.
	label string
	// pub is nil if the file does not tell it without a passphrase.
	pub ssh.PublicKey
	// file is nil for a key of the agent that no file names, and for a certificate.
	file *keyFile
	// given says that the person has given the place in the order.
	given bool
	// held says that the agent holds exactly this key or certificate.
	held bool
}

// agentKeys returns the keys of the agent. If the agent fails, a person may repair it, so
// NeedsPerson is called.
func (c *collector) agentKeys() []*agent.Key {
	if c.Agent == nil {
		return nil
	}
	over := c.wait(Wait{}) // a silent agent has its own time, and the server is not to blame
	keys, err := c.Agent.list()
	over()
	switch {
	case err != nil:
		c.AgentFailed(err)
		c.NeedsPerson()
	case len(keys) == 0:
		c.Note("the agent shows no keys: it has none, or it is locked (ssh-add -X unlocks it)")
	}
	return slices.DeleteFunc(keys, func(k *agent.Key) bool {
		pub, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			c.noteUnreadable(k)
			return true
		}
		if err := hostkeys.CheckRSALength(pub, c.Host.RequiredRSASize); err != nil {
			c.Note(agentLabel(k) + ": " + err.Error())
			return true
		}
		return false
	})
}

// noteUnreadable says which key of the agent is of a type that we do not know.
func (c *collector) noteUnreadable(k *agent.Key) {
	reason := fmt.Errorf("a key of the type %q, which is not known", display.Cut(k.Format))
	if hostkeys.Composite(k.Format) {
		reason = errComposite
	}
	c.Note(agentLabel(k) + ": " + reason.Error())
}

// agentLabel names a key of the agent.
func agentLabel(k *agent.Key) string { return "agent: " + display.Cut(display.Printable(k.Comment)) }

// identities reads those of IdentityFile that are there, and the certificates beside them if
// CertificateFile names none. It is silent about a default file that does not exist.
func (c *collector) identities() (ids []identity) {
	for _, path := range c.Host.IdentityFiles {
		f, err := loadKeyFile(path)
		switch {
		case err == nil:
			c.files = append(c.files, f)
			ids = append(ids, identity{label: path, pub: f.pub, file: f, given: c.Host.IdentityFilesSet})
		case errors.Is(err, fs.ErrNotExist) && !c.Host.IdentityFilesSet: // a default that is missing
		default:
			c.Note(fmt.Sprintf("%s: %v", path, err))
		}
		if len(c.Host.CertificateFiles) > 0 {
			continue
		}
		if cert, name := certificateBeside(path); cert != nil {
			ids = append(ids, identity{label: name, pub: cert, given: c.Host.IdentityFilesSet})
		}
	}
	return ids
}

// certificateBeside returns the certificate that ssh-keygen has put beside a key file, and its
// path. It returns nil if there is none.
func certificateBeside(path string) (*ssh.Certificate, string) {
	for _, name := range []string{path + "-cert", path + "-cert.pub"} {
		pub, err := readPublicKey(name)
		if err != nil {
			continue
		}
		if cert, ok := pub.(*ssh.Certificate); ok && cert.CertType == ssh.UserCert {
			return cert, name
		}
		return nil, ""
	}
	return nil, ""
}

// certificates returns those of CertificateFile.
func (c *collector) certificates() (ids []identity) {
	for _, path := range c.Host.CertificateFiles {
		pub, err := readPublicKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			if besides, berr := readPublicKey(path + ".pub"); berr == nil {
				pub, err = besides, nil
			}
		}
		cert, ok := pub.(*ssh.Certificate)
		switch {
		case err != nil:
			c.Note(fmt.Sprintf("%s: %v", path, err))
		case !ok || cert.CertType != ssh.UserCert:
			c.Note(path + ": not a user certificate")
		default:
			ids = append(ids, identity{label: path, pub: cert, given: true, held: c.holds(cert)})
		}
	}
	return ids
}

// fromAgent returns the keys of the agent: first those that files name, which it takes out of
// files, then the others.
func (c *collector) fromAgent(files *[]identity) []identity {
	var listed, others []identity
	for _, k := range c.inAgent {
		i := slices.IndexFunc(*files, func(id identity) bool { return id.pub != nil && hostkeys.SameKey(k, id.pub) })
		if i >= 0 {
			id := (*files)[i]
			id.held = true
			listed = append(listed, id)
			*files = slices.Delete(*files, i, i+1)
			continue
		}
		pub, err := ssh.ParsePublicKey(k.Blob)
		cert, isCert := pub.(*ssh.Certificate)
		if err != nil || c.Host.IdentitiesOnly || isCert && cert.CertType != ssh.UserCert {
			continue
		}
		others = append(others, identity{label: agentLabel(k), pub: pub, held: true})
	}
	all := append(listed, others...)
	sortByPriority(all)
	return all
}

// sortByPriority puts the best first among those whose place the person has not given
// (order_identities_by_prio of OpenSSH).
func sortByPriority(ids []identity) {
	var free []identity
	for _, id := range ids {
		if !id.given {
			free = append(free, id)
		}
	}
	slices.SortStableFunc(free, func(a, b identity) int { return priority(a.pub) - priority(b.pub) })
	for i := range ids {
		if !ids[i].given {
			ids[i], free = free[0], free[1:]
		}
	}
}

// priority returns the rank of a key (identity_prioritise of OpenSSH): certificates of security
// keys that need no touch, other certificates, those of security keys that need a PIN, the rest.
func priority(pub ssh.PublicKey) int {
	cert, ok := pub.(*ssh.Certificate)
	if !ok {
		return 3
	}
	_, verify := cert.CriticalOptions["verify-required"]
	_, untouched := cert.Extensions["no-touch-required"]
	switch {
	case isSecurityKey(cert) && verify:
		return 2
	case isSecurityKey(cert) && untouched:
		return 0
	}
	return 1
}

// holds tells whether the agent holds exactly this key or certificate.
func (c *collector) holds(pub ssh.PublicKey) bool {
	return slices.ContainsFunc(c.inAgent, func(k *agent.Key) bool { return hostkeys.SameKey(k, pub) })
}

// signer returns a signer for an identity, by the agent or by a file. It returns nil if neither has
// the private key.
func (c *collector) signer(id identity) (s ssh.Signer, inAgent bool) {
	if id.held || id.pub != nil && c.holds(id.pub) {
		return c.agentSigner(id.pub), true
	}
	cert, isCert := id.pub.(*ssh.Certificate)
	switch {
	case isCert:
		plain, inAgent := c.plainSigner(cert.Key)
		if plain == nil {
			return nil, false
		}
		s, _ = ssh.NewCertSigner(cert, plain)
		return s, inAgent
	case id.file != nil:
		return id.file.signer(c), false
	}
	return nil, false
}

// plainSigner returns a signer for the key in a certificate. It returns nil if there is none.
func (c *collector) plainSigner(pub ssh.PublicKey) (s ssh.Signer, inAgent bool) {
	if c.holds(pub) {
		return c.agentSigner(pub), true
	}
	for _, f := range c.files {
		if f.pub != nil && hostkeys.SameKey(f.pub, pub) {
			if s := f.signer(c); s != nil {
				return s, false
			}
		}
	}
	return nil, false
}

// wait reports a wait, and returns what ends it.
func (c *collector) wait(w Wait) (over func()) {
	if c.Wait == nil {
		return func() {}
	}
	return c.Wait(w)
}

// agentSigner returns a signer for a key that the agent holds.
func (c *collector) agentSigner(pub ssh.PublicKey) ssh.Signer {
	return &agentSigner{collector: c, pub: pub}
}

// offer appends an identity, unless it cannot be used or the same key is there already. It notes
// why not.
func (c *collector) offer(id identity) {
	s, inAgent := c.signer(id)
	switch _, isCert := id.pub.(*ssh.Certificate); {
	case s == nil && isCert:
		c.Note(id.label + ": no private key for it")
	case s == nil:
		c.Note(id.label + ": " + id.file.useless())
	case id.pub == nil:
		c.keys = append(c.keys, c.unopened(id))
	default:
		if k, ok := c.limited(Key{Label: id.label, Signer: s, InAgent: inAgent}); ok {
			c.keys = append(c.keys, k)
		}
	}
}

// unopened returns a key whose file has to be decrypted before it can be offered.
func (c *collector) unopened(id identity) Key {
	k := Key{Label: id.label}
	k.open = func() (Key, bool) {
		if id.file.private.unseal != nil {
			if err := id.file.unlock(c); err != nil {
				c.Note(fmt.Sprintf("%s: %v", id.label, err))
				return k, false
			}
		}
		return c.limited(Key{Label: id.label, Signer: id.file.signer(c)})
	}
	return k
}
