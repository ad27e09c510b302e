package hostkeys

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"strconv"
	"strings"

	"sallyport/sshtunnel/sshconfig"
)

// hostPort returns the name of a host in known_hosts, in lower case (put_host_port of OpenSSH).
// Port 0 stands for the default port.
func hostPort(host string, port int) string {
	host = strings.ToLower(host)
	if port == 0 || port == 22 {
		return host
	}
	return "[" + host + "]:" + strconv.Itoa(port)
}

// matchNames tells whether the first field of a known_hosts line speaks about name, which is in
// lower case. The field is a list of patterns or one hashed name.
func matchNames(field, name string) bool {
	if strings.HasPrefix(field, "|") {
		return matchHashed(field, name)
	}
	return sshconfig.MatchPatterns(name, field)
}

// matchHashed compares name with a field "|1|salt|hash", as HashKnownHosts makes it.
func matchHashed(field, name string) bool {
	parts := strings.Split(field, "|")
	if len(parts) != 4 || parts[0] != "" || parts[1] != "1" {
		return false
	}
	salt, err := base64.StdEncoding.DecodeString(parts[2])
	// OpenSSH compares the text of the hash, not the bytes that it stands for.
	return err == nil && len(salt) == sha1.Size && field == hashedName(salt, name)
}

// hashedName returns name as HashKnownHosts writes it.
func hashedName(salt []byte, name string) string {
	h := hmac.New(sha1.New, salt)
	io.WriteString(h, name)
	encode := base64.StdEncoding.EncodeToString
	return "|1|" + encode(salt) + "|" + encode(h.Sum(nil))
}
