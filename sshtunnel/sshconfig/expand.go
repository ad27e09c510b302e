package sshconfig

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
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

// expandFields makes the fields of h that `ssh -G` prints as they were written. The tokens of
// ProxyCommand and ProxyJump are fewer than those of other keywords (ssh_config(5), TOKENS).
func (c *completion) expandFields(h *Host) (err error) {
	proxyTokens := maps.Clone(c.tokens)
	maps.DeleteFunc(proxyTokens, func(letter byte, _ string) bool { return !strings.ContainsRune("hknpr", rune(letter)) })
	if h.ProxyCommand, err = expand(c.values.first("proxycommand"), proxyTokens, nil); err != nil {
		return c.fault("proxycommand", err)
	}
	for _, hop := range c.values.texts("proxyjump") {
		// ssh undoes the percent encoding of a URI when it reads the line, before it looks for
		// tokens.
		if t, err := parseHop(hop); err == nil && strings.HasPrefix(hop, "ssh://") {
			hop = printHop(t)
		}
		if hop, err = expand(escapeZone(hop), proxyTokens, nil); err != nil {
			return c.fault("proxyjump", err)
		}
		h.ProxyJump = append(h.ProxyJump, hop)
	}
	if h.IdentityFiles, err = c.expandPaths("identityfile"); err != nil {
		return err
	}
	h.CertificateFiles, err = c.expandPaths("certificatefile")
	return err
}

// expandPaths returns the files of a keyword, expanded and without "none".
func (c *completion) expandPaths(keyword string) ([]string, error) {
	var out []string
	for _, v := range c.values[keyword] {
		if strings.EqualFold(v.text, "none") {
			continue
		}
		path, err := c.expandText(v.text, true, true)
		if err != nil {
			return nil, v.origin.errorf("%s: %v", keyword, err)
		}
		out = append(out, path)
	}
	return out, nil
}

// agent returns where IdentityAgent leads: "" is the agent of SSH_AUTH_SOCK. A variable that is not
// set means no agent, as in OpenSSH.
func (c *completion) agent() string {
	agent := c.values.first("identityagent")
	name, isVariable := strings.CutPrefix(agent, "$")
	switch {
	case agent == "SSH_AUTH_SOCK":
		return ""
	case isVariable:
		if socket := c.resolver.getenv(name); socket != "" {
			return socket
		}
		return "none"
	default:
		return agent
	}
}
