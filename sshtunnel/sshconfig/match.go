package sshconfig

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"sallyport/sshtunnel/display"
)

// criterion is one condition of a Match line.
type criterion struct {
	// word is how the line spells it, for messages.
	word string
	// name is the criterion in lower case, without the ! before it.
	name string
	// negated says that a ! stood before it.
	negated bool
	// arg is the argument. It is empty for all, canonical and final.
	arg string
}

// nextCriterion takes a criterion and its argument off the line. The criteria all, canonical and
// final have none.
func nextCriterion(d *directive) (criterion, error) {
	word, _ := d.next()
	name, negated := strings.CutPrefix(word, "!")
	name, arg, hasArg := strings.Cut(name, "=")
	c := criterion{word: word, name: strings.ToLower(name), negated: negated, arg: arg}
	noArg := c.name == "all" || c.name == "canonical" || c.name == "final"
	if hasArg && (noArg || c.name == "sessiontype") {
		return c, d.errorf("unsupported Match criterion %q", display.Cut(word))
	}
	if noArg {
		return c, nil
	}
	if !hasArg {
		if len(d.args) == 0 {
			return c, d.errorf("Match %q has no argument", display.Cut(word))
		}
		c.arg, _ = d.next()
	}
	mayBeEmpty := c.name == "tagged" || c.name == "command"
	if c.arg == "" && !mayBeEmpty || strings.HasPrefix(c.arg, "#") {
		return c, d.errorf("Match %q has no argument", display.Cut(word))
	}
	return c, nil
}

// matchBlock begins the block of a Match line (ssh_config(5), Match). All criteria are looked at
// even after one did not hold, because their syntax is checked. But then no command is run any
// more.
func (e *evaluation) matchBlock(ctx context.Context, d *directive, how reading) error {
	e.active = false
	host, err := e.matchHost()
	if err != nil {
		return d.errorf("%v", err)
	}
	matched, named := !how.parseOnly, false
	for n := 0; ; n++ {
		if len(d.args) == 0 || strings.HasPrefix(d.args[0], "#") {
			if n == 0 {
				return d.errorf("Match needs at least one criterion")
			}
			break
		}
		c, err := nextCriterion(d)
		if err != nil {
			return err
		}
		if c.name == "all" {
			// OpenSSH looks at the count of earlier criteria only from the second on.
			if n > 1 || len(d.args) > 0 && d.args[0] != "" && d.args[0][0] != '#' {
				return d.errorf("Match %q cannot be combined with other criteria", display.Cut(c.word))
			}
			matched = matched && !c.negated
			break
		}
		holds, err := e.holds(ctx, c, host, matched)
		if err != nil && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return d.errorf("%v", err)
		}
		if holds == c.negated {
			matched = false
		}
		named = named || !c.negated && (c.name == "host" || c.name == "originalhost")
	}
	d.args = nil
	e.active, e.blocks.named = matched, e.blocks.named || matched && named
	return nil
}

// holds evaluates one criterion. Without mayRun, exec only has its tokens checked. The caller
// applies the negation. Only final looks at it, because !final asks for no second pass.
func (e *evaluation) holds(ctx context.Context, c criterion, host string, mayRun bool) (bool, error) {
	switch c.name {
	case "canonical":
		return e.finalPass, nil
	case "final":
		if !c.negated {
			e.wantFinalPass = true
		}
		return e.finalPass, nil
	case "host":
		return matchList(lowerASCII(host), c.arg, true) == 1, nil
	case "originalhost":
		return matchList(lowerASCII(e.target.host), c.arg, true) == 1, nil
	case "user":
		return matchList(e.user(), c.arg, false) == 1, nil
	case "localuser":
		return matchList(e.local.user, c.arg, false) == 1, nil
	case "localnetwork":
		return e.resolver.matchNetwork(c.arg)
	case "version":
		return matchList(e.release.version, c.arg, false) == 1, nil
	case "tagged":
		return matchOptional(e.values.first("tag"), c.arg), nil
	case "command":
		return matchOptional("", c.arg), nil // we never run a command of the user's
	case "sessiontype":
		session := "shell"
		if s := e.values.first("sessiontype"); s == "none" || s == "subsystem" {
			session = s
		}
		return matchList(session, c.arg, false) == 1, nil
	case "exec":
		command, err := expand(c.arg, e.tokensFor(host), nil)
		if err != nil || !mayRun {
			return false, err
		}
		return e.resolver.run(ctx, command)
	}
	return false, fmt.Errorf("unsupported Match criterion %q", display.Cut(c.name))
}

// matchHost returns the name that Match host sees: HostName as far as it is known. In the first
// pass its tokens are not expanded yet, and %h in it is the name that was typed.
func (e *evaluation) matchHost() (string, error) {
	name := e.values.first("hostname")
	if name == "" {
		return e.target.host, nil
	}
	if e.finalPass {
		return name, nil
	}
	return expand(escapeZone(name), map[byte]string{'h': e.target.host}, nil)
}

// matchOptional lets an unset value match the empty argument only.
func matchOptional(value, patterns string) bool {
	if value == "" {
		return patterns == ""
	}
	return matchList(value, patterns, false) == 1
}

// matchNetwork tells whether an address of this machine lies in one of the networks of a list. A
// network that is written with bits beyond its mask is an error, as in addr_match_cidr_list of
// OpenSSH.
func (r *Resolver) matchNetwork(list string) (bool, error) {
	var networks []netip.Prefix
	for entry := range strings.SplitSeq(list, ",") {
		prefix, err := netip.ParsePrefix(entry)
		if addr, addrErr := netip.ParseAddr(entry); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return false, fmt.Errorf("bad network %q", display.Cut(entry))
		}
		if prefix.Masked() != prefix {
			return false, fmt.Errorf("network %q has bits beyond its mask", display.Cut(entry))
		}
		networks = append(networks, prefix)
	}
	addrs := r.system.addrs
	if addrs == nil {
		addrs = interfaceAddrs
	}
	mine, err := addrs()
	if err != nil {
		return false, fmt.Errorf("addresses of this machine: %v", err)
	}
	for _, addr := range mine {
		for _, network := range networks {
			if network.Contains(addr) {
				return true, nil
			}
		}
	}
	return false, nil
}

// interfaceAddrs returns the addresses of all interfaces that are up.
func interfaceAddrs() ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 {
			continue
		}
		for _, addr := range addrs {
			if n, ok := addr.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok {
					out = append(out, ip.Unmap())
				}
			}
		}
	}
	return out, nil
}
