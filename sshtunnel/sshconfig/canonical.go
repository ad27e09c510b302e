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
	v := e.values.first("canonicalizehostname")
	return v == "true" || v == "always"
}

// canonicalize puts HostName in the place of the alias and, with CanonicalizeHostname, asks DNS for
// the full name (resolve_canonicalize of OpenSSH; CanonicalizeHostname in ssh_config(5)).
func (e *evaluation) canonicalize(ctx context.Context) error {
	// The second pass over the files does not change these any more.
	e.values.setDefault("canonicalizemaxdots", "1")
	e.values.setDefault("canonicalizefallbacklocal", "yes")
	e.values.setDefault("canonicalizehostname", "false")
	name, err := e.matchHost()
	if err != nil {
		return e.fault("hostname", err)
	}
	e.host.text = name
	// The origin moves to the line of HostName only if there is one. Else it stays with the
	// destination.
	if e.values.isSet("hostname") {
		e.values.replace("hostname", name)
		e.host.origin = e.values.origin("hostname")
	}
	family := e.values.first("addressfamily")
	// DNS is not asked about an address.
	if looksLikeAddress(name) {
		e.host.text = canonicalAddress(name, family)
		return nil
	}
	if addr := canonicalAddress(name, family); addr != name { // a number in another base
		e.host.text = addr
		return nil
	}
	e.host.text = lowerASCII(name)
	proxy := e.values.first("proxycommand")
	direct := (proxy == "" || strings.EqualFold(proxy, "none")) && e.jumpHost() == ""
	if !direct && e.values.first("canonicalizehostname") != "always" {
		return nil // the proxy gives the name its meaning
	}
	found, err := e.searchDomains(ctx)
	if err != nil || found {
		return err
	}
	if rules := e.values.texts("canonicalizepermittedcnames"); len(rules) > 0 && rules[0] != "none" {
		canonical, err := e.resolver.lookupHost(ctx, e.host.text)
		if err != nil {
			if direct {
				return lookupError(ctx, err)
			}
			return nil
		}
		e.followCNAME(canonical)
	}
	return nil
}

// searchDomains tries the name in each of CanonicalDomains, and tells whether one of them has it. A
// name with more dots than CanonicalizeMaxDots stays as it is.
func (e *evaluation) searchDomains(ctx context.Context) (bool, error) {
	name := e.host.text
	if !e.canonicalizes() || name == "" {
		return false, nil
	}
	candidates := []string{name}
	if !strings.HasSuffix(name, ".") {
		maxDots := 1
		if n, err := strconv.Atoi(e.values.first("canonicalizemaxdots")); err == nil {
			maxDots = n
		}
		if strings.Count(name, ".") > maxDots {
			return false, nil
		}
		// The dot at the end of a candidate keeps the resolver from trying the domains of
		// resolv.conf as well.
		candidates = nil
		for _, domain := range e.values.texts("canonicaldomains") {
			if domain == "none" {
				break
			}
			candidates = append(candidates, name+"."+domain+".")
		}
	}
	for _, candidate := range candidates {
		canonical, err := e.resolver.lookupHost(ctx, candidate)
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		if err != nil {
			continue
		}
		e.host.text = strings.TrimSuffix(candidate, ".")
		if candidate != name { // a domain was added
			e.host.origin = e.values.origin("canonicaldomains")
		}
		e.followCNAME(canonical)
		return true, nil
	}
	if e.values.first("canonicalizefallbacklocal") == "no" {
		return false, lookupError(ctx, &net.DNSError{Err: "in none of CanonicalDomains", Name: name, IsNotFound: true})
	}
	return false, nil
}

// followCNAME takes the name that DNS gave, if a rule of CanonicalizePermittedCNAMEs permits it.
// Without such a rule, whoever answers for DNS could choose the name that the host key is checked
// for.
func (e *evaluation) followCNAME(canonical string) {
	if canonical == "" || canonical == e.host.text || !e.canonicalizes() {
		return
	}
	for _, rule := range e.values["canonicalizepermittedcnames"] {
		from, to, _ := strings.Cut(rule.text, ":")
		if matchList(e.host.text, from, true) == 1 && matchList(canonical, to, true) == 1 {
			e.host = value{lowerASCII(canonical), rule.origin}
			return
		}
	}
}

// lookupError returns why a lookup failed, or the cause of the context's end.
func lookupError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// looksLikeAddress tells whether a name can only be an address, perhaps a bad one.
func looksLikeAddress(s string) bool {
	return strings.ContainsAny(s, "%:") || strings.Trim(s, "0123456789.") == ""
}

// canonicalAddress writes an address as getnameinfo(3) does. What is no address, or not of the
// family (the value of AddressFamily), stays as it is.
func canonicalAddress(s, family string) string {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		addr, err = parseOldIPv4(s)
	}
	if err != nil || family == "inet" && addr.Is6() || family == "inet6" && addr.Is4() {
		return s
	}
	// getaddrinfo(3) refuses a zone that is no interface here.
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

// parseOldIPv4 reads the older forms of inet_aton(3): fewer parts, octal, hexadecimal.
func parseOldIPv4(s string) (netip.Addr, error) {
	parts := strings.Split(s, ".")
	bad := &net.ParseError{Type: "IP address", Text: s}
	if len(parts) > 4 {
		return netip.Addr{}, bad
	}
	var address uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (4 - i) // the last part fills what is left
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
		address = address<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}), nil
}
