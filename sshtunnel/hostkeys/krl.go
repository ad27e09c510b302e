package hostkeys

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
)

// These numbers are those of OpenSSH's PROTOCOL.krl.
const (
	krlMagic   = "SSHKRL\n\x00"
	krlVersion = 1

	krlCertificates      = 1
	krlExplicitKeys      = 2
	krlFingerprintSHA1   = 3
	krlSignature         = 4
	krlFingerprintSHA256 = 5
	krlExtension         = 255

	krlSerialList    = 0x20
	krlSerialRange   = 0x21
	krlSerialBitmap  = 0x22
	krlKeyIDs        = 0x23
	krlCertExtension = 0x39

	// maxKRLBitmap is the longest bitmap that OpenSSH reads, in bytes (SSHBUF_MAX_BIGNUM).
	maxKRLBitmap = 16384 / 8
)

// krl is a key revocation list. Its zero value revokes nothing.
type krl struct {
	// keys holds public keys in their wire format, sha1s and sha256s the raw digests of such.
	keys, sha1s, sha256s map[string]bool
	authorities          []krlAuthority
}

// krlAuthority holds the certificates that one authority takes back.
type krlAuthority struct {
	// ca is the authority's public key in its wire format. If it is empty, the certificates of
	// every authority are meant.
	ca      []byte
	serials []krlSerials
	// ids are the key ids of certificates.
	ids map[string]bool
}

// krlSerials is a range of serial numbers, from lo to hi.
type krlSerials struct {
	lo, hi uint64
	// bitmap picks the numbers of the range that are meant: bit n stands for lo+n. It is big
	// endian. A nil bitmap means all of them.
	bitmap []byte
}

// has tells whether a serial number is one of those that are meant.
func (s krlSerials) has(serial uint64) bool {
	if serial < s.lo || serial > s.hi {
		return false
	}
	if s.bitmap == nil {
		return true
	}
	n := serial - s.lo
	return s.bitmap[len(s.bitmap)-1-int(n/8)]&(1<<(n%8)) != 0
}

// revokes tells whether the list takes back a key. A certificate is also taken back by its serial
// number, its id, the key in it, or the key of its authority (ssh_krl_check_key of OpenSSH).
func (l *krl) revokes(key ssh.PublicKey) bool {
	cert, isCert := key.(*ssh.Certificate)
	if !isCert {
		return l.revokesPlain(key)
	}
	if l.revokesPlain(cert.Key) || l.revokesPlain(cert.SignatureKey) {
		return true
	}
	ca := cert.SignatureKey.Marshal()
	for _, a := range l.authorities {
		if len(a.ca) > 0 && !bytes.Equal(a.ca, ca) {
			continue
		}
		if a.ids[cert.KeyId] {
			return true
		}
		for _, s := range a.serials {
			// An authority that does not count its certificates gives all of them the number 0.
			if cert.Serial != 0 && s.has(cert.Serial) {
				return true
			}
		}
	}
	return false
}

// revokesPlain tells whether the list names a plain key, or a digest of it.
func (l *krl) revokesPlain(key ssh.PublicKey) bool {
	blob := key.Marshal()
	short, long := sha1.Sum(blob), sha256.Sum256(blob)
	return l.keys[string(blob)] || l.sha1s[string(short[:])] || l.sha256s[string(long[:])]
}

// krlReader takes values off the front of a key revocation list. After the first error it returns
// zeroes.
type krlReader struct {
	// rest is what is not read yet.
	rest []byte
	// err is the first error.
	err error
}

var errKRLShort = errors.New("key revocation list ends early")

// fail notes the first error and ends the reading.
func (r *krlReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = nil
}

// more tells whether anything is left.
func (r *krlReader) more() bool { return len(r.rest) > 0 }

// take takes n bytes, and fails if there are fewer.
func (r *krlReader) take(n uint64) []byte {
	if uint64(len(r.rest)) < n {
		r.fail(errKRLShort)
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *krlReader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *krlReader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *krlReader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// string takes a length and as many bytes.
func (r *krlReader) string() []byte { return r.take(uint64(r.uint32())) }

// text takes a string of C. A zero byte may end it, and is an error elsewhere.
func (r *krlReader) text() string {
	s := strings.TrimSuffix(string(r.string()), "\x00")
	if strings.Contains(s, "\x00") {
		r.fail(errors.New("key revocation list: zero byte inside a text"))
	}
	return s
}

// end makes an error of bytes that are left.
func (r *krlReader) end() {
	if r.more() {
		r.fail(errors.New("key revocation list: unread bytes after a section"))
	}
}

// parseKRL reads a key revocation list (ssh_krl_from_blob of OpenSSH). A list that is damaged, or
// holds something unknown, is refused as a whole, because nobody can tell what it revokes.
// Signatures in it are not checked: we trust the file because the user's configuration names it.
func parseKRL(b []byte) (*krl, error) {
	r := &krlReader{rest: b}
	if string(r.take(uint64(len(krlMagic)))) != krlMagic {
		return nil, errors.New("not a key revocation list")
	}
	if v := r.uint32(); r.err == nil && v != krlVersion {
		return nil, fmt.Errorf("key revocation list of format %d, only %d is known", v, krlVersion)
	}
	r.uint64() // version
	r.uint64() // date
	r.uint64() // flags, none is defined
	r.string() // reserved
	r.text()   // comment
	l := &krl{keys: map[string]bool{}, sha1s: map[string]bool{}, sha256s: map[string]bool{}}
	for r.more() {
		kind := r.byte()
		section := &krlReader{rest: r.string(), err: r.err}
		switch kind {
		case krlCertificates:
			l.readAuthority(section)
		case krlExplicitKeys:
			section.strings(l.keys, 0)
		case krlFingerprintSHA1:
			section.strings(l.sha1s, sha1.Size)
		case krlFingerprintSHA256:
			section.strings(l.sha256s, sha256.Size)
		case krlExtension:
			section.extension()
		case krlSignature: // its body is two strings: the key, now in section, and the signature
			section.rest = nil
			r.string()
		default:
			r.fail(fmt.Errorf("key revocation list: section of unknown kind %d", kind))
		}
		section.end()
		if section.err != nil {
			r.fail(section.err)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return l, nil
}

// strings puts all strings into set; size is what each must have in bytes, 0 any.
func (r *krlReader) strings(set map[string]bool, size int) {
	for r.more() {
		s := r.string()
		if size != 0 && len(s) != size && r.err == nil {
			r.fail(fmt.Errorf("key revocation list: fingerprint of %d bytes", len(s)))
		}
		set[string(s)] = true
	}
}

// extension skips an extension. We know none, so a critical one is an error.
func (r *krlReader) extension() {
	name, critical := r.text(), r.byte()
	r.string()
	if r.err == nil && critical != 0 {
		r.fail(fmt.Errorf("key revocation list: unknown critical extension %q", display.Cut(name)))
	}
}

// readAuthority reads a section of certificates, which belongs to one authority or to all.
func (l *krl) readAuthority(r *krlReader) {
	a := krlAuthority{ca: r.string(), ids: map[string]bool{}}
	r.string() // reserved
	if len(a.ca) > 0 {
		typ := (&krlReader{rest: a.ca}).string()
		if _, err := ssh.ParsePublicKey(a.ca); err != nil && !Composite(string(typ)) {
			r.fail(errors.New("key revocation list: key of an authority cannot be read"))
		}
	}
	for r.more() {
		kind := r.byte()
		section := &krlReader{rest: r.string(), err: r.err}
		switch kind {
		case krlSerialList:
			for section.more() {
				n := section.uint64()
				a.addSerials(section, krlSerials{lo: n, hi: n})
			}
		case krlSerialRange:
			a.addSerials(section, krlSerials{lo: section.uint64(), hi: section.uint64()})
		case krlSerialBitmap:
			a.readBitmap(section)
		case krlKeyIDs:
			for section.more() {
				a.ids[section.text()] = true
			}
		case krlCertExtension:
			section.extension()
		default:
			r.fail(fmt.Errorf("key revocation list: certificate section of unknown kind %#x", kind))
		}
		section.end()
		if section.err != nil {
			r.fail(section.err)
		}
	}
	l.authorities = append(l.authorities, a)
}

// addSerials adds a range. The number 0 is none, and a range must not be empty.
func (a *krlAuthority) addSerials(r *krlReader, s krlSerials) {
	if r.err == nil && (s.lo == 0 || s.lo > s.hi) {
		r.fail(fmt.Errorf("key revocation list: serial numbers %d to %d", s.lo, s.hi))
	}
	a.serials = append(a.serials, s)
}

// readBitmap reads an offset and a big integer, whose bit n stands for the serial number offset+n.
func (a *krlAuthority) readBitmap(r *krlReader) {
	offset, number := r.uint64(), r.string()
	if r.err != nil {
		return
	}
	if len(number) > 0 && number[0]&0x80 != 0 {
		r.fail(errors.New("key revocation list: negative bitmap"))
		return
	}
	bitmap := bytes.TrimLeft(number, "\x00")
	if len(number) > maxKRLBitmap+1 || len(bitmap) > maxKRLBitmap {
		r.fail(fmt.Errorf("key revocation list: bitmap of %d bytes", len(number)))
		return
	}
	if len(bitmap) == 0 {
		return
	}
	last := uint64(len(bitmap))*8 - 1 - uint64(bits.LeadingZeros8(bitmap[0]))
	if offset > math.MaxUint64-last || offset == 0 && bitmap[len(bitmap)-1]&1 != 0 {
		r.fail(errors.New("key revocation list: bitmap with an impossible serial number"))
		return
	}
	a.serials = append(a.serials, krlSerials{lo: offset, hi: offset + last, bitmap: bitmap})
}
