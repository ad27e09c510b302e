package sshconfig

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// errNoVariable says that text names an environment variable that is not set.
var errNoVariable = errors.New("no such environment variable")

// expand replaces %x by tokens['x'] and, with a getenv, ${NAME} by the environment variable
// (ssh_config(5), TOKENS and ENVIRONMENT VARIABLES). It does either where tokens or getenv is nil not.
func expand(s string, tokens map[byte]string, getenv func(string) string) (string, error) {
	var out strings.Builder
	var missing error // reported last: a malformed string is the graver fault
	for i := 0; i < len(s); i++ {
		switch {
		case getenv != nil && strings.HasPrefix(s[i:], "${"):
			name, _, ok := strings.Cut(s[i+2:], "}")
			if !ok || name == "" {
				return "", fmt.Errorf("malformed environment variable in %q", cut(s))
			}
			// OpenSSH tells an empty variable from a missing one, Getenv does not: both are missing.
			value := getenv(name)
			if value == "" && missing == nil {
				missing = fmt.Errorf("%w: %q", errNoVariable, cut(name))
			}
			out.WriteString(value)
			i += len("${") + len(name)
		case tokens != nil && s[i] == '%':
			i++
			if i == len(s) {
				return "", fmt.Errorf("%q ends in the middle of a token", cut(s))
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

// expandTilde replaces a leading ~ or ~user by a home directory.
func (r *Resolver) expandTilde(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	home := r.local().home
	if name != "" {
		u, err := user.Lookup(name)
		if err != nil {
			return "", fmt.Errorf("no such user %q", cut(name))
		}
		home = u.HomeDir
	}
	if !strings.HasSuffix(home, "/") {
		home += "/"
	}
	return home + strings.TrimLeft(rest, "/"), nil
}

// tokens is what stands for each letter while the files are being read and after it (TOKENS in ssh_config(5)).
func (e *evaluation) tokens(host, keyAlias, jump string) map[byte]string {
	local := e.r.local()
	short, _, _ := strings.Cut(local.hostname, ".")
	t := map[byte]string{
		'L': short,
		'd': local.home,
		'h': host,
		'i': local.uid,
		'j': jump,
		'k': keyAlias,
		'l': local.hostname,
		'n': e.target.host,
		'p': strconv.Itoa(e.port()),
		'r': e.user(),
		'u': local.user,
	}
	hash := sha1.Sum([]byte(t['l'] + t['h'] + t['p'] + t['r'] + t['j']))
	t['C'] = hex.EncodeToString(hash[:])
	return t
}

// local is what the files may ask about this side.
type local struct{ home, user, uid, hostname string }

// absolute tells whether an Include path needs no directory before it.
func absolute(path string) bool { return strings.HasPrefix(path, "/") || filepath.IsAbs(path) }
