package sshconfig

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"strings"

	"sallyport/sshtunnel/display"
)

// errNoVariable says that text names an environment variable that is not set.
var errNoVariable = errors.New("no such environment variable")

// expand replaces %x by tokens['x'] and ${NAME} by the environment variable (ssh_config(5), TOKENS
// and ENVIRONMENT VARIABLES). A nil tokens or getenv turns that expansion off.
func expand(s string, tokens map[byte]string, getenv func(string) string) (string, error) {
	var out strings.Builder
	var missing error // reported last, because a malformed string is the graver fault
	for i := 0; i < len(s); i++ {
		switch {
		case getenv != nil && strings.HasPrefix(s[i:], "${"):
			name, _, ok := strings.Cut(s[i+2:], "}")
			if !ok || name == "" {
				return "", fmt.Errorf("malformed environment variable in %q", display.Cut(s))
			}
			// OpenSSH tells an empty variable from a missing one. Getenv does not, so both are
			// missing.
			value := getenv(name)
			if value == "" && missing == nil {
				missing = fmt.Errorf("%w: %q", errNoVariable, display.Cut(name))
			}
			out.WriteString(value)
			i += len("${") + len(name)
		case tokens != nil && s[i] == '%':
			i++
			if i == len(s) {
				return "", fmt.Errorf("%q ends in the middle of a token", display.Cut(s))
			}
			value, ok := tokens[s[i]]
			if s[i] == '%' {
				value, ok = "%", true
			}
			if !ok {
				return "", fmt.Errorf("unknown token %q", s[i-1:i+1])
			}
			out.WriteString(value)
		default:
			out.WriteByte(s[i])
		}
	}
	if missing != nil {
		return "", missing
	}
	return out.String(), nil
}

// expandTilde replaces a leading ~ or ~user by a home directory. Another user's home directory
// comes from the system's user database. An unknown user is an error.
func (l local) expandTilde(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	home := l.home
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("no such user %q", display.Cut(name))
		}
		home = u.HomeDir
	}
	if !strings.HasSuffix(home, "/") {
		home += "/"
	}
	return home + strings.TrimLeft(rest, "/"), nil
}

// tokensFor returns the tokens while the files are being read. host is the name as far as it is
// known.
func (e *evaluation) tokensFor(host string) map[byte]string {
	return e.makeTokens(host, cmp.Or(e.values.first("hostkeyalias"), host), e.jumpHost())
}

// makeTokens returns what stands for each letter (ssh_config(5), TOKENS). keyAlias is %k, and jump
// is %j.
func (e *evaluation) makeTokens(host, keyAlias, jump string) map[byte]string {
	short, _, _ := strings.Cut(e.local.hostname, ".")
	t := map[byte]string{
		'L': short,
		'd': e.local.home,
		'h': host,
		'i': e.local.uid,
		'j': jump,
		'k': keyAlias,
		'l': e.local.hostname,
		'n': e.target.host,
		'p': strconv.Itoa(e.port()),
		'r': e.user(),
		'u': e.local.user,
	}
	// %C is OpenSSH's hash of the connection (ssh_connection_hash). It only names sockets, so SHA-1
	// does no harm.
	hash := sha1.Sum([]byte(t['l'] + t['h'] + t['p'] + t['r'] + t['j']))
	t['C'] = hex.EncodeToString(hash[:])
	return t
}
