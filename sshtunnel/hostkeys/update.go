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

// hostKeysRequest is the request by which a server tells its host keys (OpenSSH's PROTOCOL 2.5,
// draft-miller-sshm-hostkey-update).
const hostKeysRequest = "hostkeys-00@openssh.com"

// maxServerKeys is the most host keys of one server that are looked at.
const maxServerKeys = 64

// HandleUpdates serves UpdateHostKeys (ssh_config(5)): it takes the server's notice of its host
// keys out of reqs, which are the requests of conn, and passes on all others. It is called after
// Verify has accepted a key. A nil ask means that nobody is there.
//
// Its goroutines end with the connection; then it closes the channel that it returned. The caller
// must read that channel to its end.
func (v *Verifier) HandleUpdates(conn ssh.Conn, reqs <-chan *ssh.Request, ask Asker) <-chan *ssh.Request {
	others := make(chan *ssh.Request)
	go func() { // ends with the connection
		defer close(others)
		ctx, cancel := context.WithCancel(context.Background())
		var update sync.WaitGroup
		defer update.Wait()
		defer cancel()
		wanted := v.wantsUpdates()
		for r := range reqs {
			if r.Type != hostKeysRequest {
				others <- r
				continue
			}
			if wanted {
				wanted = false // once for each connection
				// It runs beside this loop, because it waits for the server and perhaps for a
				// person.
				update.Go(func() {
					u := &hostKeyUpdate{Verifier: v, ctx: ctx, conn: conn, ask: ask}
					if err := u.run(r.Payload); err != nil {
						v.log.Warn("host keys not updated", "hop", v.host.Alias, "err", err)
					}
				})
			}
			r.Reply(true, nil) // the server need not know what becomes of it
		}
	}()
	return others
}

// wantsUpdates tells whether UpdateHostKeys is on, and whether the key was accepted in a way that
// allows it: as a plain key of the user's own files, or by the person.
func (v *Verifier) wantsUpdates() bool {
	switch v.host.UpdateHostKeys {
	case "yes":
	case "ask":
		if v.host.BatchMode {
			return false
		}
	default:
		return false
	}
	return v.updatable && len(v.host.UserKnownHostsFiles) > 0
}

// hostKeyUpdate brings the user's known_hosts in line with the keys that a trusted server says it
// has.
type hostKeyUpdate struct {
	*Verifier
	// ctx ends with the connection.
	ctx  context.Context
	conn ssh.Conn
	ask  Asker

	// keys is what the server says it has, and found tells for each of them whether the user's
	// files hold it already.
	keys  []ssh.PublicKey
	found []bool
	// obsolete are the keys that the files hold and the server has no more.
	obsolete []ssh.PublicKey
}

// run does what client_input_hostkeys of OpenSSH does with the server's notice.
func (u *hostKeyUpdate) run(notice []byte) error {
	if err := u.parse(notice); err != nil || len(u.keys) == 0 {
		return err
	}
	if obstacle := u.compare(); obstacle != "" {
		u.log.Debug("host keys not updated", "hop", u.host.Alias, "err", obstacle)
		return nil
	}
	fresh, err := u.prove()
	if err != nil {
		return err
	}
	if len(fresh) == 0 && len(u.obsolete) == 0 {
		return nil
	}
	if u.host.UpdateHostKeys == "ask" {
		yes, err := u.askYes(fresh)
		if err != nil || !yes {
			return err
		}
	}
	return u.write(fresh)
}

// parse reads the server's keys. It skips certificates, unknown types, and keys that
// HostKeyAlgorithms does not allow.
func (u *hostKeyUpdate) parse(notice []byte) error {
	blobs, err := parseStrings(notice)
	if err != nil {
		return err
	}
	if len(blobs) > maxServerKeys {
		return fmt.Errorf("the server tells %d host keys", len(blobs))
	}
	for _, blob := range blobs {
		key, err := ssh.ParsePublicKey(blob)
		if err != nil {
			continue
		}
		if _, isCert := key.(*ssh.Certificate); isCert || !u.permits(key) {
			continue
		}
		if indexOf(u.keys, key) >= 0 {
			return fmt.Errorf("the server tells its %s key twice", key.Type())
		}
		u.keys = append(u.keys, key)
	}
	u.found = make([]bool, len(u.keys))
	return nil
}

// compare looks the keys up in the user's files as they are now. It returns what is in the way of
// an update, and "" if nothing is. Like ssh, it leaves alone what a person has written by hand, and
// what other names share.
func (u *hostKeyUpdate) compare() (obstacle string) {
	entries := loadKnownHosts(u.host.UserKnownHostsFiles, SourceUserFile, func(string, error) {})
	name, address := u.name(), u.addressName()
	var otherNames []*knownEntry // the lines that speak about other names
	for i := range entries {
		e := &entries[i]
		forName, forAddress := e.matches(name), address != "" && e.matches(address)
		at := indexOf(u.keys, e.key)
		switch {
		case !forName && !forAddress:
			otherNames = append(otherNames, e)
			if at >= 0 {
				obstacle = "a key is known under another name as well"
			}
		case e.marker != "":
			obstacle = "an authority or a revoked key is noted for the host"
		case address != "" && strings.Contains(e.hosts, ",") && forName != forAddress:
			obstacle = "name and address are noted together with others"
		case strings.ContainsAny(e.hosts, "*?") || strings.Count(e.hosts, ",") > 1:
			obstacle = "the host is noted by a pattern or list"
		case at >= 0:
			u.found[at] = true
		case indexOf(u.obsolete, e.key) < 0:
			u.obsolete = append(u.obsolete, e.key)
		}
	}
	for _, e := range otherNames {
		if indexOf(u.obsolete, e.key) >= 0 {
			obstacle = "an obsolete key is known under another name as well"
		}
	}
	if !slices.Contains(u.found, false) && len(u.obsolete) == 0 {
		obstacle = "nothing is new"
	}
	return obstacle
}

// askYes asks the person whether the files are to be changed.
func (u *hostKeyUpdate) askYes(fresh []ssh.PublicKey) (bool, error) {
	if u.ask == nil {
		return false, ErrNoPerson
	}
	var b strings.Builder
	b.WriteString("The server has updated its host keys.\n" +
		"These changes were verified by the server's existing trusted key.\n")
	for _, k := range fresh {
		fmt.Fprintf(&b, "Learned new hostkey: %s %s\n", displayType(k.Type()), Fingerprint(k))
	}
	for _, k := range u.obsolete {
		fmt.Fprintf(&b, "Deprecating obsolete hostkey: %s %s\n", displayType(k.Type()), Fingerprint(k))
	}
	b.WriteString("Accept updated hostkeys? (yes/no): ")
	question := b.String()
	for range maxQuestions {
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

// write changes the user's files. The first one gets all keys of the server; the others only lose
// the obsolete ones.
func (u *hostKeyUpdate) write(fresh []ssh.PublicKey) error {
	for i, file := range u.host.UserKnownHostsFiles {
		r := replacement{name: u.name(), address: u.addressName(), hash: u.host.HashKnownHosts}
		if i == 0 {
			r.keys = u.keys
		}
		if err := replaceKnownHost(u.ctx, file, r); err != nil {
			return fmt.Errorf("%s: %w", file, display.Reason(err))
		}
	}
	for _, k := range fresh {
		u.log.Info("host key learned", "hop", u.host.Alias, "type", k.Type(), "fingerprint", Fingerprint(k))
	}
	for _, k := range u.obsolete {
		u.log.Info("host key removed", "hop", u.host.Alias, "type", k.Type(), "fingerprint", Fingerprint(k))
	}
	return nil
}

// indexOf returns where key is in keys, and -1 if it is not.
func indexOf(keys []ssh.PublicKey, key ssh.PublicKey) int {
	return slices.IndexFunc(keys, func(k ssh.PublicKey) bool { return SameKey(k, key) })
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
			return nil, errors.New("a message of the server cannot be read")
		}
		all, b = append(all, next.S), next.Rest
	}
	return all, nil
}
