package userkeys

import (
	"crypto/sha512"
	"encoding/binary"
	"errors"

	//lint:ignore SA1019 bcrypt_pbkdf of OpenSSH is made of it.
	"golang.org/x/crypto/blowfish"
)

// maxRounds is the most rounds of bcrypt that are done for a key file, as with OpenSSH 10.6. That
// many take hours.
const maxRounds = 1 << 20

// bcryptPBKDF derives size bytes from a passphrase, as OpenSSH's format of private keys wants it
// (bcrypt_pbkdf(3) of OpenBSD). It is PBKDF2 with bcrypt as its hash, but for the order of the
// bytes: those of a block are spread over the whole result. x/crypto has the same code, but keeps
// it to itself and to one size.
func bcryptPBKDF(passphrase, salt []byte, rounds, size int) ([]byte, error) {
	const block = 32
	switch {
	case rounds < 1 || rounds > maxRounds:
		return nil, errors.New("the number of its bcrypt rounds is out of range")
	case len(passphrase) == 0 || len(salt) == 0 || size < 1 || size > block*block:
		return nil, errors.New("the parameters of its bcrypt are out of range")
	}
	secret := sha512.Sum512(passphrase)
	stride := (size + block - 1) / block
	out := make([]byte, stride*block)
	for n := range stride {
		sum := sha512.Sum512(binary.BigEndian.AppendUint32(append([]byte(nil), salt...), uint32(n+1)))
		last := bcryptHash(secret, sum)
		all := last
		for range rounds - 1 {
			last = bcryptHash(secret, sha512.Sum512(last[:]))
			for i, b := range last {
				all[i] ^= b
			}
		}
		for i, b := range all {
			out[i*stride+n] = b
		}
	}
	return out[:size], nil
}

// bcryptHash is bcrypt with 64 rounds of key expansion, of two hashes, in the byte order of
// OpenBSD.
func bcryptHash(secret, salt [sha512.Size]byte) (out [32]byte) {
	const expansions, encryptions = 64, 64
	c, err := blowfish.NewSaltedCipher(secret[:], salt[:])
	if err != nil {
		panic(err) // only for keys without bytes
	}
	for range expansions {
		blowfish.ExpandKey(salt[:], c)
		blowfish.ExpandKey(secret[:], c)
	}
	copy(out[:], "OxychromaticBlowfishSwatDynamite")
	for i := 0; i < len(out); i += blowfish.BlockSize {
		for range encryptions {
			c.Encrypt(out[i:], out[i:])
		}
	}
	for i := 0; i < len(out); i += 4 {
		out[i], out[i+1], out[i+2], out[i+3] = out[i+3], out[i+2], out[i+1], out[i]
	}
	return out
}
