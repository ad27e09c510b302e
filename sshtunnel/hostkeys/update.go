package hostkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// Requests by which a server tells its host keys and proves to hold them (OpenSSH's PROTOCOL 2.5,
// draft-miller-sshm-hostkey-update).
const (
	hostKeysRequest = "hostkeys-00@openssh.com"
	proveRequest    = "hostkeys-prove-00@openssh.com"
)

// maxServerKeys is how many host keys of one server are looked at.
const maxServerKeys = 64

// HandleUpdates serves UpdateHostKeys: it takes the server's notice out of reqs, the requests of conn, and passes on the
// rest. A nil ask means that nobody is there. Its goroutine ends with the connection, and then closes what it returned.
// It is called after Verify has accepted a key.
func (c *Verifier) HandleUpdates(conn ssh.Conn, reqs <-chan *ssh.Request, ask Asker) <-chan *ssh.Request {
	rest := make(chan *ssh.Request)
	go func() { // ends with the connection
		defer close(rest)
		ctx, cancel := context.WithCancel(context.Background())
		var update sync.WaitGroup
		defer update.Wait()
		defer cancel()
		wanted := c.wantsUpdates()
		for r := range reqs {
			if r.Type != hostKeysRequest {
				rest <- r
				continue
			}
			if wanted {
				wanted = false // once a connection
				// Beside the loop, for it waits for the server and perhaps for a person. Ends with the connection.
				update.Go(func() {
					u := &hostKeyUpdate{check: c, ctx: ctx, conn: conn, ask: ask}
					if err := u.run(r.Payload); err != nil {
						c.log.Warn("host keys not updated", "hop", c.host.Alias, "err", err)
					}
				})
			}
			r.Reply(true, nil) // what we make of it is no business of the server's
		}
	}()
	return rest
}

// wantsUpdates follows ssh_config(5), UpdateHostKeys: only after a plain key of the user's own files.
func (c *Verifier) wantsUpdates() bool {
	switch c.host.UpdateHostKeys {
	case "yes":
	case "ask":
		if c.host.BatchMode {
			return false
		}
	default:
		return false
	}
	return c.updatable && len(c.host.UserKnownHostsFiles) > 0
}

// hostKeyUpdate brings the user's known_hosts in line with the keys that a trusted server says it has.
type hostKeyUpdate struct {
	check *Verifier
	ctx   context.Context // of the connection
	conn  ssh.Conn
	ask   Asker

	keys     []ssh.PublicKey // what the server says it has
	found    []bool          // of keys: known already
	obsolete []ssh.PublicKey // known, and no longer there
}

// run does what client_input_hostkeys of ssh does with the payload of hostkeys-00.
func (u *hostKeyUpdate) run(payload []byte) error {
	if err := u.parse(payload); err != nil || len(u.keys) == 0 {
		return err
	}
	if why := u.compare(); why != "" {
		u.check.log.Debug("host keys not updated", "hop", u.check.host.Alias, "err", why)
		return nil
	}
	fresh, err := u.prove()
	if err != nil {
		return err
	}
	if len(fresh) == 0 && len(u.obsolete) == 0 {
		return nil
	}
	if u.check.host.UpdateHostKeys == "ask" {
		yes, err := u.accepted(fresh)
		if err != nil || !yes {
			return err
		}
	}
	for i, file := range u.check.host.UserKnownHostsFiles {
		var keys []ssh.PublicKey
		if i == 0 {
			keys = u.keys // the other files only lose what is obsolete
		}
		if err := replaceKnownHost(u.ctx, file, u.check.name(), u.check.ipName(), keys, u.check.host.HashKnownHosts); err != nil {
			return fmt.Errorf("%s: %w", file, display.Reason(err))
		}
	}
	for _, k := range fresh {
		u.check.log.Info("host key learned", "hop", u.check.host.Alias, "type", k.Type(), "fingerprint", ssh.FingerprintSHA256(k))
	}
	for _, k := range u.obsolete {
		u.check.log.Info("host key removed", "hop", u.check.host.Alias, "type", k.Type(), "fingerprint", ssh.FingerprintSHA256(k))
	}
	return nil
}

// parse reads the server's keys. Certificates, types that we do not know and those that HostKeyAlgorithms do not
// allow are passed over.
func (u *hostKeyUpdate) parse(payload []byte) error {
	blobs, err := parseStrings(payload)
	if err != nil {
		return err
	}
	if len(blobs) > maxServerKeys {
		return fmt.Errorf("server tells %d host keys", len(blobs))
	}
	for _, blob := range blobs {
		key, err := ssh.ParsePublicKey(blob)
		if err != nil {
			continue
		}
		if _, isCert := key.(*ssh.Certificate); isCert || !u.check.permitted(key) {
			continue
		}
		if slices.ContainsFunc(u.keys, func(k ssh.PublicKey) bool { return SameKey(k, key) }) {
			return fmt.Errorf("server tells its %s key twice", key.Type())
		}
		u.keys = append(u.keys, key)
	}
	u.found = make([]bool, len(u.keys))
	return nil
}

// compare looks the keys up in the user's files as they are now. It returns why an update is not to
// be done: ssh leaves alone what a person has written by hand, or what other names share.
func (u *hostKeyUpdate) compare() (why string) {
	entries := loadKnownHosts(u.check.host.UserKnownHostsFiles, fromUser, func(string, error) {})
	name, ip := u.check.name(), u.check.ipName()
	index := func(keys []ssh.PublicKey, e *knownEntry) int {
		return slices.IndexFunc(keys, func(k ssh.PublicKey) bool { return SameKey(k, e.key) })
	}
	var others []*knownEntry // lines of other names
	for i := range entries {
		e := &entries[i]
		forName, forIP := e.matches(name), ip != "" && e.matches(ip)
		at := index(u.keys, e)
		switch {
		case !forName && !forIP:
			others = append(others, e)
			if at >= 0 {
				why = "a key is known under another name as well"
			}
		case e.marker != "":
			why = "an authority or revoked key is noted for the host"
		case ip != "" && strings.Contains(e.hosts, ",") && forName != forIP:
			why = "name and address are noted together with others"
		case strings.ContainsAny(e.hosts, "*?") || strings.Count(e.hosts, ",") > 1:
			why = "the host is noted by a pattern or list"
		case at >= 0:
			u.found[at] = true
		case index(u.obsolete, e) < 0:
			u.obsolete = append(u.obsolete, e.key)
		}
	}
	for _, e := range others {
		if index(u.obsolete, e) >= 0 {
			why = "an obsolete key is known under another name as well"
		}
	}
	if !slices.Contains(u.found, false) && len(u.obsolete) == 0 {
		why = "nothing new"
	}
	return why
}

// prove has the server sign with the private halves of the keys that are new, and returns these.
func (u *hostKeyUpdate) prove() (fresh []ssh.PublicKey, err error) {
	var payload []byte
	for i, k := range u.keys {
		if !u.found[i] {
			fresh = append(fresh, k)
			payload = append(payload, ssh.Marshal(struct{ Key []byte }{k.Marshal()})...)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	ok, reply, err := u.conn.SendRequest(proveRequest, true, payload)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errors.New("server does not prove to hold its further host keys")
	}
	proofs, err := parseStrings(reply)
	if err != nil {
		return nil, err
	}
	if len(proofs) != len(fresh) {
		return nil, fmt.Errorf("server proves %d host keys of %d", len(proofs), len(fresh))
	}
	var negotiated string // the algorithm of the handshake
	if m, ok := u.conn.(ssh.AlgorithmsConnMetadata); ok {
		negotiated = m.Algorithms().HostKey
	}
	var proved []ssh.PublicKey
	for i, k := range fresh {
		var sig ssh.Signature
		if err := ssh.Unmarshal(proofs[i], &sig); err != nil {
			return nil, fmt.Errorf("proof of the %s key cannot be read", k.Type())
		}
		if k.Type() == ssh.KeyAlgoRSA && sig.Format != ssh.KeyAlgoRSASHA512 && sig.Format != ssh.KeyAlgoRSASHA256 {
			// SHA-1 proves nothing: the key is left out.
			u.keys = slices.DeleteFunc(u.keys, func(other ssh.PublicKey) bool { return SameKey(k, other) })
			continue
		}
		if k.Type() == ssh.KeyAlgoRSA && keyTypeOf(negotiated) == ssh.KeyAlgoRSA && !strings.HasPrefix(negotiated, sig.Format) {
			return nil, fmt.Errorf("proof of the %s key is of another algorithm than the handshake", k.Type())
		}
		signed := ssh.Marshal(struct {
			Request            string
			SessionID, HostKey []byte
		}{proveRequest, u.conn.SessionID(), k.Marshal()})
		if err := k.Verify(signed, &sig); err != nil {
			return nil, fmt.Errorf("proof of the %s key is wrong", k.Type())
		}
		proved = append(proved, k)
	}
	return proved, nil
}

// accepted asks the person.
func (u *hostKeyUpdate) accepted(fresh []ssh.PublicKey) (bool, error) {
	if u.ask == nil {
		return false, ErrNoPerson
	}
	var b strings.Builder
	b.WriteString("The server has updated its host keys.\nThese changes were verified by the server's existing trusted key.\n")
	for _, k := range fresh {
		fmt.Fprintf(&b, "Learned new hostkey: %s %s\n", displayType(k.Type()), ssh.FingerprintSHA256(k))
	}
	for _, k := range u.obsolete {
		fmt.Fprintf(&b, "Deprecating obsolete hostkey: %s %s\n", displayType(k.Type()), ssh.FingerprintSHA256(k))
	}
	b.WriteString("Accept updated hostkeys? (yes/no): ")
	question := b.String()
	for range maxHostKeyQuestions {
		answer, err := u.ask(u.ctx, question)
		switch answer = strings.TrimSpace(answer); {
		case err != nil:
			return false, err
		case strings.EqualFold(answer, "yes"):
			return true, nil
		case strings.EqualFold(answer, "no"):
			return false, nil
		}
		question = "Please enter \"yes\" or \"no\": "
	}
	return false, nil
}

// parseStrings splits a run of strings (RFC 4251 5).
func parseStrings(b []byte) ([][]byte, error) {
	var all [][]byte
	for len(b) > 0 {
		var next struct {
			S    []byte
			Rest []byte `ssh:"rest"`
		}
		if err := ssh.Unmarshal(b, &next); err != nil {
			return nil, errors.New("message of the server cannot be read")
		}
		all, b = append(all, next.S), next.Rest
	}
	return all, nil
}
