package sshconfig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// matchExecTimeout bounds one command of Match exec. OpenSSH waits for ever, and a session would with it.
const matchExecTimeout = 30 * time.Second

// match evaluates the criteria of a Match line (ssh_config(5), Match). All criteria are looked at even
// after one failed, for their syntax; but then no command is run any more.
func (e *evaluation) match(ctx context.Context, d *directive, parseOnly bool) (bool, error) {
	host, err := e.matchHost()
	if err != nil {
		return false, d.errorf("%v", err)
	}
	matched := true
	for n := 0; ; n++ {
		if len(d.args) == 0 || strings.HasPrefix(d.args[0], "#") {
			d.args = nil
			if n == 0 {
				return false, d.errorf("Match needs at least one criterion")
			}
			return matched, nil
		}
		word, _ := d.next()
		name, negated := strings.CutPrefix(word, "!")
		name, arg, hasArg := strings.Cut(name, "=")
		name = strings.ToLower(name)
		var holds bool
		switch {
		case hasArg && (name == "all" || name == "canonical" || name == "final" || name == "sessiontype"):
			return false, d.errorf("unsupported Match criterion %q", cut(word))
		case name == "all":
			// OpenSSH looks at the count of earlier criteria only from the second on.
			if n > 1 || len(d.args) > 0 && d.args[0] != "" && d.args[0][0] != '#' {
				return false, d.errorf("Match %q cannot be combined with other criteria", cut(word))
			}
			d.args = nil
			return matched && !negated, nil
		case name == "canonical" || name == "final":
			if name == "final" && !negated {
				e.wantFinal = true
			}
			holds = e.final
		default:
			if !hasArg {
				if len(d.args) == 0 {
					return false, d.errorf("Match %q has no argument", cut(word))
				}
				arg, _ = d.next()
			}
			if arg == "" && name != "tagged" && name != "command" || strings.HasPrefix(arg, "#") {
				return false, d.errorf("Match %q has no argument", cut(word))
			}
			if holds, err = e.criterion(ctx, name, arg, host, matched && !parseOnly); err != nil {
				if ctx.Err() != nil {
					return false, context.Cause(ctx)
				}
				return false, d.errorf("%v", err)
			}
		}
		if holds == negated {
			matched = false
		}
	}
}

// criterion evaluates one criterion that has an argument. Without mayRun, exec only has its tokens checked.
func (e *evaluation) criterion(ctx context.Context, name, arg, host string, mayRun bool) (bool, error) {
	lower := strings.ToLower
	switch name {
	case "host":
		return matchList(lower(host), arg, true) == 1, nil
	case "originalhost":
		return matchList(lower(e.target.host), arg, true) == 1, nil
	case "user":
		return matchList(e.user(), arg, false) == 1, nil
	case "localuser":
		return matchList(e.r.local().user, arg, false) == 1, nil
	case "localnetwork":
		return e.matchNetwork(arg)
	case "version":
		return matchList(e.release.version, arg, false) == 1, nil
	case "tagged":
		return matchOptional(e.first("tag"), arg), nil
	case "command":
		return matchOptional("", arg), nil // ours never runs a command of the user's
	case "sessiontype":
		session := "shell"
		if s := e.first("sessiontype"); s == "none" || s == "subsystem" {
			session = s
		}
		return matchList(session, arg, false) == 1, nil
	case "exec":
		keyAlias := host
		if alias := e.first("hostkeyalias"); alias != "" {
			keyAlias = alias
		}
		command, err := expand(arg, e.tokens(host, keyAlias, e.jumpHost()), nil)
		if err != nil || !mayRun {
			return false, err
		}
		return e.r.exec()(ctx, command)
	}
	return false, fmt.Errorf("unsupported Match criterion %q", cut(name))
}

// matchHost is the name that Match host sees: HostName as far as it is known.
func (e *evaluation) matchHost() (string, error) {
	name := e.first("hostname")
	if name == "" {
		return e.target.host, nil
	}
	if e.final {
		return name, nil
	}
	return expand(name, map[byte]string{'h': e.target.host}, nil)
}

// matchOptional lets an unset value match the empty argument only.
func matchOptional(value, patterns string) bool {
	if value == "" {
		return patterns == ""
	}
	return matchList(value, patterns, false) == 1
}

// matchNetwork tells whether an address of this machine lies in one of the networks of a list.
func (e *evaluation) matchNetwork(list string) (bool, error) {
	var networks []netip.Prefix
	for entry := range strings.SplitSeq(list, ",") {
		prefix, err := netip.ParsePrefix(entry)
		if addr, addrErr := netip.ParseAddr(entry); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return false, fmt.Errorf("bad network %q", cut(entry))
		}
		if prefix.Masked() != prefix {
			return false, fmt.Errorf("network %q has bits beyond its mask", cut(entry))
		}
		networks = append(networks, prefix)
	}
	addrs, err := e.r.interfaceAddrs()
	if err != nil {
		return false, fmt.Errorf("addresses of this machine: %v", err)
	}
	for _, addr := range addrs {
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

// runShell runs a command by the user's shell and tells whether it succeeded.
func (r *Resolver) runShell(ctx context.Context, command string) (bool, error) {
	shell, flag := r.getenv("SHELL"), "-c"
	if shell == "" {
		shell = "/bin/sh"
		if runtime.GOOS == "windows" {
			shell, flag = "cmd.exe", "/c"
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, matchExecTimeout, errExecTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, shell, flag, command) // no stdin, no output, like OpenSSH's
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return false, fmt.Errorf("match exec %q: %w", cut(command), context.Cause(ctx))
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("match exec %q: %w", cut(command), err)
	}
	return true, nil
}

var errExecTimeout = fmt.Errorf("no end within %v: %w", matchExecTimeout, os.ErrDeadlineExceeded)

// matchPattern tells whether s matches a pattern of * (any text) and ? (any byte).
func matchPattern(s, pattern string) bool {
	star, resume := -1, 0 // the last * seen, and where in s to go on from it
	i, p := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			i++
			p++
		case star >= 0:
			resume++
			i, p = resume, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchList matches s against a comma-separated list of patterns: 1 for a match, 0 for none, and -1
// where a pattern that begins with ! matches (ssh_config(5), PATTERNS). lower folds the patterns.
func matchList(s, list string, lower bool) int {
	const maxPattern = 1022 // of OpenSSH: a longer one matches nothing, nor do those after it
	result := 0
	if list == "" {
		return 0
	}
	for pattern := range strings.SplitSeq(strings.TrimSuffix(list, ","), ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if len(pattern) > maxPattern {
			return 0
		}
		if lower {
			pattern = strings.ToLower(pattern)
		}
		if !matchPattern(s, pattern) {
			continue
		}
		if negated {
			return -1
		}
		result = 1
	}
	return result
}
