package roots

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"os"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// errBundle says that a bundle is not as bundles are. Then crypto/x509 alone tells what it holds.
var errBundle = errors.New("the bundle is not understood")

const (
	// lineLimit is how long a line of a bundle may be, in bytes. Lines of PEM have 64 or 76.
	lineLimit = 16 << 10
	// blockLimit is how long a PEM block may be, in bytes.
	blockLimit = 256 << 10

	dashes     = "-----"
	blockBegin = "-----BEGIN "
	blockEnd   = "-----END "
)

// searchBundle adds the certificates of a bundle to pool whose subjects are wanted. The subjects
// are the DER of names. It parses no other certificate, and reuses its memory for each.
//
// Each block in which nothing is odd is handed to AppendCertsFromPEM, so that it is read as it
// would be in the whole bundle. The error is an errBundle where the reading of one block could
// depend on another one, as when one has no end.
func searchBundle(path string, wanted map[string]bool, pool *x509.CertPool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, lineLimit)
	var block, der []byte // block is empty outside of one
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err // among them bufio.ErrBufferFull
		}
		text := bytes.TrimRight(line, " \t\r\n")
		if bytes.Contains(text, []byte(dashes)) {
			begins, ends := bytes.HasPrefix(text, []byte(blockBegin)), bytes.HasPrefix(text, []byte(blockEnd))
			if !begins && !ends || !bytes.HasSuffix(text, []byte(dashes)) || begins != (len(block) == 0) {
				return errBundle
			}
			block = append(append(block, text...), '\n')
			if ends {
				if !sameKind(block, text) {
					return errBundle
				}
				if der = appendBase64(der[:0], block); wanted[string(subject(der))] {
					pool.AppendCertsFromPEM(block)
				}
				block = block[:0]
			}
		} else if len(block) > 0 {
			block = append(append(block, text...), '\n')
		}
		switch {
		case len(block) > blockLimit || err != nil && len(block) > 0:
			return errBundle
		case err != nil:
			return nil
		}
	}
}

// sameKind reports whether the last line of a block names what its first line names.
func sameKind(block, last []byte) bool {
	first, _, _ := bytes.Cut(block, []byte("\n"))
	return bytes.Equal(first[len(blockBegin):], last[len(blockEnd):])
}

// appendBase64 appends what a PEM block holds. It appends nothing if that is not base64, as with
// the headers of an encrypted key.
func appendBase64(to, block []byte) []byte {
	_, body, _ := bytes.Cut(block, []byte("\n"))
	body = body[:bytes.LastIndex(body, []byte(blockEnd))]
	all, err := base64.StdEncoding.AppendDecode(to, body)
	if err != nil {
		return to
	}
	return all
}

// subject returns the DER of the subject of a certificate (RFC 5280 section 4.1). It returns nil if
// der is no certificate, and may return something if it is a malformed one.
func subject(der []byte) []byte {
	input := cryptobyte.String(der)
	var certificate, body, name cryptobyte.String
	ok := input.ReadASN1(&certificate, asn1.SEQUENCE) &&
		certificate.ReadASN1(&body, asn1.SEQUENCE) &&
		body.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) && // the version
		body.SkipASN1(asn1.INTEGER) && // the serial number
		body.SkipASN1(asn1.SEQUENCE) && // the algorithm of the signature
		body.SkipASN1(asn1.SEQUENCE) && // the issuer
		body.SkipASN1(asn1.SEQUENCE) && // the validity
		body.ReadASN1Element(&name, asn1.SEQUENCE)
	if !ok {
		return nil
	}
	return name
}
