package userkeys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

// These structures are those of PKCS #8 (RFC 5958 section 3), PKCS #5 (RFC 8018 appendix A) and
// scrypt (RFC 7914 section 7).
type (
	encryptedPKCS8 struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Params struct {
		KDF, Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	scryptParams struct {
		Salt      []byte
		N, R, P   int
		KeyLength int `asn1:"optional"`
	}
)

// pkcs8Cipher is an encryption scheme of PBES2.
type pkcs8Cipher struct {
	// key is the length of the key in bytes.
	key       int
	newCipher func([]byte) (cipher.Block, error)
}

var (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidScrypt = "1.3.6.1.4.1.11591.4.11"

	// pkcs8Ciphers holds the block ciphers in CBC mode by their object identifiers.
	pkcs8Ciphers = map[string]pkcs8Cipher{
		"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
		"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
		"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
		"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	}
	// pkcs8Hashes holds the hashes of PBKDF2. HMAC-SHA-1 is the default.
	pkcs8Hashes = map[string]func() hash.Hash{
		"":                    sha1.New,
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.8":  sha256.New224,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New,
		"1.2.840.113549.2.12": sha512.New512_224,
		"1.2.840.113549.2.13": sha512.New512_256,
	}
)

const (
	// maxIterations and maxScryptMemory bound the work for a key file. OpenSSL's own limit of
	// scrypt is 32 MiB.
	maxIterations   = 100_000_000
	maxScryptMemory = 256 << 20
)

// parseEncryptedPKCS8 reads what must be known to decrypt a key of PKCS #8.
func parseEncryptedPKCS8(der []byte) (*privateFile, error) {
	var k encryptedPKCS8
	if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) > 0 {
		return nil, errDamaged
	}
	if oid := k.Algorithm.Algorithm.String(); oid != oidPBES2 {
		return unknownPKCS8("scheme", oid), nil
	}
	var p pbes2Params
	if _, err := asn1.Unmarshal(k.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, errDamaged
	}
	oid := p.Cipher.Algorithm.String()
	c, ok := pkcs8Ciphers[oid]
	if !ok {
		return unknownPKCS8("cipher", oid), nil
	}
	var iv []byte
	if _, err := asn1.Unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, errDamaged
	}
	derive, f, err := pkcs8KDF(p.KDF, c.key)
	if derive == nil {
		return f, err
	}
	return &privateFile{unseal: func(passphrase []byte) (*privateFile, error) {
		key, err := derive(passphrase)
		if err != nil {
			return nil, err
		}
		return c.open(key, iv, k.Data)
	}}, nil
}

// pkcs8KDF returns the derivation of a key of size bytes. If it is nil, the file or the error says
// why.
func pkcs8KDF(kdf pkix.AlgorithmIdentifier, size int) (func(passphrase []byte) ([]byte, error), *privateFile, error) {
	params := kdf.Parameters.FullBytes
	switch oid := kdf.Algorithm.String(); oid {
	case oidPBKDF2:
		var p pbkdf2Params
		if _, err := asn1.Unmarshal(params, &p); err != nil || p.Iterations < 1 || p.Iterations > maxIterations {
			return nil, nil, errDamaged
		}
		newHash, ok := pkcs8Hashes[p.PRF.Algorithm.String()]
		if !ok {
			return nil, unknownPKCS8("hash", p.PRF.Algorithm.String()), nil
		}
		return func(passphrase []byte) ([]byte, error) {
			return pbkdf2.Key(newHash, string(passphrase), p.Salt, p.Iterations, size)
		}, nil, nil
	case oidScrypt:
		var p scryptParams
		_, err := asn1.Unmarshal(params, &p)
		if err != nil || p.N < 2 || p.R < 1 || p.P < 1 || p.P > 1<<10 || p.R > maxScryptMemory/128/p.N {
			return nil, nil, errDamaged
		}
		return func(passphrase []byte) ([]byte, error) {
			return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
		}, nil, nil
	default:
		return nil, unknownPKCS8("key derivation", oid), nil
	}
}

// unknownPKCS8 is a file that cannot be decrypted, and the way to one that can.
func unknownPKCS8(what, oid string) *privateFile {
	return &privateFile{broken: fmt.Errorf(
		"it is encrypted by PKCS #8 with the %s %s, which is not known; openssl pkcs8 -topk8 -v2 aes-256-cbc -in FILE -out NEW encrypts it anew",
		what, oid)}
}

// open decrypts a key. The padding and the structure tell a wrong passphrase.
func (c pkcs8Cipher) open(key, iv, data []byte) (*privateFile, error) {
	block, err := c.newCipher(key)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(iv) != size || len(data) == 0 || len(data)%size != 0 {
		return nil, errDamaged
	}
	der := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(der, data)
	pad := int(der[len(der)-1])
	if pad < 1 || pad > size {
		return nil, errWrongPassphrase
	}
	var outer asn1.RawValue
	der = der[:len(der)-pad]
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		return nil, errWrongPassphrase
	}
	private, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("decrypted, but %w", errKind)
	}
	return &privateFile{private: private}, nil
}
