package sshconfig

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// canonicalizes tells whether CanonicalizeHostname asks for canonical names.
func (e *evaluation) canonicalizes() bool {
	v := e.first("canonicalizehostname")
	return v == "true" || v == "always"
}

// canonicalize takes HostName into use, and with CanonicalizeHostname asks DNS for the full name
// (resolve_canonicalize of OpenSSH, CanonicalizeHostname in ssh_config(5)).
func (e *evaluation) canonicalize(ctx context.Context) error {
	e.active = true // a second pass does not change these any more
	e.set("canonicalizemaxdots", "1")
	e.set("canonicalizefallbacklocal", "yes")
	e.set("canonicalizehostname", "false")
	name, err := e.matchHost()
	if err != nil {
		return &Error{File: e.r.UserFile, Msg: "hostname: " + err.Error()}
	}
	e.host = name
	if e.isSet("hostname") {
		e.values["hostname"] = []string{name}
	}
	if looksLikeAddress(name) {
		e.host = e.canonicalAddress(name)
		return nil
	}
	if addr := e.canonicalAddress(name); addr != name { // a number in another base
		e.host = addr
		return nil
	}
	e.host = lowerASCII(name)
	direct := (e.first("proxycommand") == "" || strings.EqualFold(e.first("proxycommand"), "none")) && e.jumpHost() == ""
	if !direct && e.first("canonicalizehostname") != "always" {
		return nil // the proxy gives the name its meaning
	}
	found, err := e.searchDomains(ctx)
	if err != nil || found {
		return err
	}
	if rules := e.values["canonicalizepermittedcnames"]; len(rules) > 0 && rules[0] != "none" {
		canonical, err := e.r.lookupHost(ctx, e.host)
		if err != nil {
			if direct {
				return e.notFound(ctx, err)
			}
			return nil
		}
		e.followCNAME(canonical)
	}
	return nil
}

// searchDomains tries the name in each of CanonicalDomains.
func (e *evaluation) searchDomains(ctx context.Context) (bool, error) {
	if !e.canonicalizes() || e.host == "" {
		return false, nil
	}
	candidates := []string{e.host}
	if !strings.HasSuffix(e.host, ".") {
		maxDots := 1
		if n, err := strconv.Atoi(e.first("canonicalizemaxdots")); err == nil {
			maxDots = n
		}
		if strings.Count(e.host, ".") > maxDots {
			return false, nil
		}
		candidates = nil
		for _, domain := range e.values["canonicaldomains"] {
			if domain == "none" {
				break
			}
			candidates = append(candidates, e.host+"."+domain+".")
		}
	}
	for _, name := range candidates {
		canonical, err := e.r.lookupHost(ctx, name)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err == nil {
			e.host = strings.TrimSuffix(name, ".")
			e.followCNAME(canonical)
			return true, nil
		}
	}
	if e.first("canonicalizefallbacklocal") == "no" {
		return false, e.notFound(ctx, nil)
	}
	return false, nil
}

// followCNAME takes the name that DNS gave if a rule of CanonicalizePermittedCNAMEs permits it.
func (e *evaluation) followCNAME(canonical string) {
	if canonical == "" || canonical == e.host || !e.canonicalizes() {
		return
	}
	for _, rule := range e.values["canonicalizepermittedcnames"] {
		from, to, _ := strings.Cut(rule, ":")
		if matchList(e.host, from, true) == 1 && matchList(canonical, to, true) == 1 {
			e.host = lowerASCII(canonical)
			return
		}
	}
}

func (e *evaluation) notFound(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		err = &net.DNSError{Err: "in none of CanonicalDomains", Name: e.host, IsNotFound: true}
	}
	return err
}

// looksLikeAddress tells whether a name can only be an address, perhaps a bad one.
func looksLikeAddress(s string) bool {
	return strings.ContainsAny(s, "%:") || strings.Trim(s, "0123456789.") == ""
}

// canonicalAddress writes an address as getnameinfo(3) does. What is no address, or not of AddressFamily, stays as it is.
func (e *evaluation) canonicalAddress(s string) string {
	family := e.first("addressfamily")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		addr, err = parseOldIPv4(s)
	}
	if err != nil || family == "inet" && addr.Is6() || family == "inet6" && addr.Is4() {
		return s
	}
	if addr.Zone() != "" {
		if _, err := net.InterfaceByName(addr.Zone()); err != nil {
			return s
		}
	}
	if out := addr.String(); !strings.EqualFold(out, s) {
		return out
	}
	return s
}

// parseOldIPv4 reads the forms that inet_aton(3) takes besides: fewer parts, octal, hexadecimal.
func parseOldIPv4(s string) (netip.Addr, error) {
	parts := strings.Split(s, ".")
	bad := &net.ParseError{Type: "IP address", Text: s}
	if len(parts) > 4 {
		return netip.Addr{}, bad
	}
	var value uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		digits, base := part, 10
		if hex, ok := strings.CutPrefix(strings.ToLower(part), "0x"); ok {
			digits, base = hex, 16
		} else if len(part) > 1 && part[0] == '0' {
			base = 8
		}
		n, err := strconv.ParseUint(digits, base, bits)
		if err != nil {
			return netip.Addr{}, bad
		}
		value = value<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}), nil
}

// lowerASCII is lowercase of OpenSSH: bytes outside of ASCII stay.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
