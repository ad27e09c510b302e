package tokenstore

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
)

const (
	sealedMagic = "sallyport2\n"
	keyLen      = 32 // bytes, for AES-256
	keyIDLen    = 8  // bytes
)

var (
	errDamaged  = errors.New("damaged, or none of the token store's files")
	errOtherKey = errors.New("sealed with another key than")
)

// key seals and opens values.
type key struct {
	// id is what a sealed value names its key by.
	id   []byte
	aead cipher.AEAD
}

// newKey returns the key that is made of keyLen bytes.
func newKey(secret []byte) key {
	sum := sha256.Sum256(append([]byte("sallyport key ID "), secret...))
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err) // the length is that of AES-256
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM
	}
	return key{sum[:keyIDLen], aead}
}

// seal encrypts the value b, and binds it to the name of its file.
func (k key) seal(file string, b []byte) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	out := slices.Concat([]byte(sealedMagic), k.id, nonce)
	return k.aead.Seal(out, nonce, b, []byte(file))
}

// open decrypts what seal made for the same file. The error is errDamaged.
func (k key) open(file string, sealed []byte) ([]byte, error) {
	rest, n := sealed[len(sealedMagic)+keyIDLen:], k.aead.NonceSize()
	if len(rest) < n {
		return nil, errDamaged
	}
	b, err := k.aead.Open(nil, rest[:n], rest[n:], []byte(file))
	if err != nil {
		return nil, errDamaged
	}
	return b, nil
}

// keyIDOf returns the ID of the key that sealed a value, or nil if the value is damaged.
func keyIDOf(sealed []byte) []byte {
	rest, ok := bytes.CutPrefix(sealed, []byte(sealedMagic))
	if !ok || len(rest) < keyIDLen {
		return nil
	}
	return rest[:keyIDLen]
}
