package sshconfig

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"sallyport/sshtunnel/display"
)

// target is what one run of ssh gets on its command line.
type target struct {
	// host is the name as it was typed. It may be an alias.
	host string
	// user is "" and port is 0 where they are not named.
	user string
	port int
	// jump is the value of -J.
	jump string
	// options are those of -o.
	options []string
	// isHop is true for a jump host: the ssh that goes through it runs another one with -W.
	isHop bool
	// origin is where the host, the user, the port and jump are written.
	origin Origin
}

// String returns the destination as one would type it.
func (t target) String() string {
	s := t.host
	if t.port != 0 {
		s = net.JoinHostPort(t.host, strconv.Itoa(t.port))
	}
	if t.user != "" {
		s = t.user + "@" + s
	}
	return s
}

// parseDestination reads an alias, [user@]host[:port] or an ssh:// URI. The form host:port is ours;
// ssh(1) takes a port in a URI only. A name with several colons is an IPv6 address.
func parseDestination(s string) (target, error) {
	if strings.HasPrefix(s, "ssh://") {
		return parseURI(s)
	}
	var t target
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		t.user, s = s[:i], s[i+1:]
		if t.user == "" {
			return t, fmt.Errorf("destination has an empty user")
		}
	}
	t.host = s
	if strings.HasPrefix(s, "[") || strings.Count(s, ":") == 1 {
		var err error
		if t.host, t.port, err = cutPort(s); err != nil {
			return t, err
		}
	}
	return t, nil
}

// parseHop reads one element of ProxyJump: [user@]host[:port] or an ssh:// URI.
func parseHop(s string) (target, error) {
	if strings.HasPrefix(s, "ssh://") {
		return parseURI(s)
	}
	var t target
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		t.user, s = s[:i], s[i+1:]
		if t.user == "" {
			return t, fmt.Errorf("jump host %q has an empty user", display.Cut(s))
		}
	}
	var err error
	t.host, t.port, err = cutPort(s)
	return t, err
}

// parseURI reads ssh://[user[;parameters]@]host[:port][/]. The parameters are ignored, as in
// parse_uri of OpenSSH.
func parseURI(s string) (target, error) {
	var t target
	rest := strings.TrimPrefix(s, "ssh://")
	if info, after, ok := strings.Cut(rest, "@"); ok {
		name, _, _ := strings.Cut(info, ";")
		decoded, err := decodeURI(name)
		if err != nil || decoded == "" {
			return t, fmt.Errorf("%q has a bad user", display.Cut(s))
		}
		t.user, rest = decoded, after
	}
	rest = strings.TrimSuffix(rest, "/")
	if strings.Contains(rest, "/") {
		return t, fmt.Errorf("%q has a path", display.Cut(s))
	}
	var err error
	if t.host, t.port, err = cutPort(rest); err != nil {
		return t, err
	}
	// ssh takes no address of IPv6 here. The '%' of a zone is encoded (RFC 6874), or it is not.
	address := strings.Replace(t.host, "%25", "%", 1)
	if addr, parseErr := netip.ParseAddr(address); strings.HasPrefix(rest, "[") && parseErr == nil && addr.Is6() {
		t.host = address
		return t, nil
	}
	t.host, err = cleanDomain(t.host)
	return t, err
}

// decodeURI undoes the percent encoding of a user name. It follows urldecode of OpenSSH, which
// takes + for a blank and refuses a zero byte.
func decodeURI(s string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			out.WriteByte(' ')
		case s[i] != '%':
			out.WriteByte(s[i])
		default:
			c, err := strconv.ParseUint(s[min(i+1, len(s)):min(i+3, len(s))], 16, 8)
			if err != nil || i+2 >= len(s) || c == 0 {
				return "", fmt.Errorf("bad percent encoding")
			}
			out.WriteByte(byte(c))
			i += 2
		}
	}
	return out.String(), nil
}

// cutPort splits host[:port] or [host][:port]. An address of IPv6 needs the brackets. Without a
// port, the port is 0.
func cutPort(s string) (host string, port int, err error) {
	rest, found := "", false
	if strings.HasPrefix(s, "[") {
		if host, rest, found = strings.Cut(s[1:], "]"); !found {
			return "", 0, fmt.Errorf("%q lacks a ']'", display.Cut(s))
		}
		if rest != "" && rest[0] != ':' {
			return "", 0, fmt.Errorf("%q has text after ']'", display.Cut(s))
		}
		rest = strings.TrimPrefix(rest, ":")
	} else {
		host, rest, _ = strings.Cut(s, ":")
		if strings.Contains(host, "/") {
			return "", 0, fmt.Errorf("%q has a path", display.Cut(s))
		}
	}
	if host == "" {
		return "", 0, fmt.Errorf("%q has no host", display.Cut(s))
	}
	if rest != "" {
		if port, err = parsePort(rest); err != nil {
			return "", 0, err
		}
	}
	return host, port, nil
}

// parsePort reads a port number from 1, or a service's name.
func parsePort(s string) (int, error) {
	n, err := parseNumber(s, 65535)
	if err != nil {
		n, err = net.LookupPort("tcp", s)
	}
	if err != nil || n == 0 {
		return 0, fmt.Errorf("bad port %q", display.Cut(s))
	}
	return n, nil
}

// maxName is the longest host or user name, in bytes (NI_MAXHOST). It also ends a chain of hops
// whose names double, as ProxyJump %h%h makes them.
const maxName = 1025

// check refuses names that could become an option of a program or a command in a shell
// (ssh_valid_hostname and ssh_valid_ruser of OpenSSH's readconf.c).
func (t target) check() error {
	if len(t.host) > maxName || len(t.user) > maxName {
		return fmt.Errorf("host or user name is longer than %d bytes", maxName)
	}
	if !validHost(t.host) {
		return fmt.Errorf("host name %q is empty or has characters that are not allowed", display.Cut(t.host))
	}
	if !validUser(t.user) {
		return badUser(t.user)
	}
	return nil
}

// badUser is the error of a user name that validUser refuses. The way past it is that of OpenSSH,
// whose rule is for names that come from elsewhere and end up in a shell by %r.
func badUser(name string) error {
	return fmt.Errorf("user name %q has characters that are not allowed here; a plain User line of ssh_config may have them",
		display.Cut(name))
}

// validHost tells whether a host name is safe to pass to a program or a shell. A leading - would
// make it an option.
func validHost(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsAny(s, "'`\"$\\;&<>|(){}, \v\f") && !hasControl(s)
}

// validUser tells the same about a user name. It may have blanks inside.
func validUser(s string) bool {
	return !strings.HasPrefix(s, "-") && !strings.Contains(s, " -") &&
		!strings.ContainsAny(s, "'`\"$\\;&<>|(){}") && !hasControl(s)
}

// hasControl tells whether s has control characters.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// cleanDomain checks a DNS name and cuts the dot at its end (valid_domain of OpenSSH).
func cleanDomain(s string) (string, error) {
	if s == "" || strings.Contains(s, "..") || s[0] == '.' || s[0] == '-' {
		return "", fmt.Errorf("bad domain name %q", display.Cut(s))
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '.' && c != '-' && c != '_' {
			return "", fmt.Errorf("bad domain name %q", display.Cut(s))
		}
	}
	return strings.TrimSuffix(s, "."), nil
}

// escapeZone doubles the '%' of an IPv6 address with a zone, so that it is not taken for a token.
// The address may stand in brackets, with a user before and a port behind. ssh wants the '%'
// doubled in the file, which is left as it is.
func escapeZone(s string) string {
	before, address, after := "", s, ""
	if i, j := strings.IndexByte(s, '['), strings.LastIndexByte(s, ']'); i >= 0 && i < j {
		before, address, after = s[:i], s[i:j], s[j:]
	}
	if addr, err := netip.ParseAddr(strings.TrimPrefix(address, "[")); err != nil || addr.Zone() == "" || strings.HasPrefix(addr.Zone(), "%") {
		return s
	}
	return before + strings.Replace(address, "%", "%%", 1) + after
}

// isAlnum tells whether c is a letter or a digit of ASCII.
func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
