package hostkeys

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// proveRequest is the request by which a server proves that it holds the private halves of its host
// keys (OpenSSH's PROTOCOL 2.5).
const proveRequest = "hostkeys-prove-00@openssh.com"

// prove has the server sign with the keys that are new to us, and returns those that it has proved
// to hold. A proof that is wrong is an error; then nothing that the server says about its keys
// counts.
func (u *hostKeyUpdate) prove() (proved []ssh.PublicKey, err error) {
	var fresh []ssh.PublicKey
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
		return nil, errors.New("the server does not prove that it holds its other host keys")
	}
	proofs, err := parseStrings(reply)
	if err != nil {
		return nil, err
	}
	if len(proofs) != len(fresh) {
		return nil, fmt.Errorf("the server proves %d host keys of %d", len(proofs), len(fresh))
	}
	for i, k := range fresh {
		counts, err := u.checkProof(k, proofs[i])
		if err != nil {
			return nil, fmt.Errorf("the proof of the %s key %v", k.Type(), err)
		}
		if counts {
			proved = append(proved, k)
		} else {
			u.keys = slices.DeleteFunc(u.keys, func(other ssh.PublicKey) bool { return SameKey(k, other) })
		}
	}
	return proved, nil
}

// checkProof checks the server's signature with one key. counts is false for a signature with
// SHA-1, which proves nothing; the key is then left out.
func (u *hostKeyUpdate) checkProof(key ssh.PublicKey, proof []byte) (counts bool, err error) {
	var signature ssh.Signature
	if err := ssh.Unmarshal(proof, &signature); err != nil {
		return false, errors.New("cannot be read")
	}
	if key.Type() == ssh.KeyAlgoRSA {
		if signature.Format != ssh.KeyAlgoRSASHA512 && signature.Format != ssh.KeyAlgoRSASHA256 {
			return false, nil
		}
		// Like ssh, we expect the algorithm of the handshake, if that was one of RSA.
		negotiated := u.negotiatedAlgorithm()
		if keyTypeOf(negotiated) == ssh.KeyAlgoRSA && !strings.HasPrefix(negotiated, signature.Format) {
			return false, errors.New("is of another algorithm than the handshake")
		}
	}
	signed := ssh.Marshal(struct {
		Request            string
		SessionID, HostKey []byte
	}{proveRequest, u.conn.SessionID(), key.Marshal()})
	if err := key.Verify(signed, &signature); err != nil {
		return false, errors.New("is wrong")
	}
	return true, nil
}

// negotiatedAlgorithm returns the signature algorithm of the handshake, and "" if the connection
// does not tell.
func (u *hostKeyUpdate) negotiatedAlgorithm() string {
	if m, ok := u.conn.(ssh.AlgorithmsConnMetadata); ok {
		return m.Algorithms().HostKey
	}
	return ""
}
