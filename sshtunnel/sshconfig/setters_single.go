package sshconfig

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"sallyport/sshtunnel/display"
)

// setPort takes a number or the name of a service.
func setPort(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	port, err := parsePort(arg)
	if err != nil {
		return d.errorf("%v", err)
	}
	e.set(d.keyword, strconv.Itoa(port))
	return nil
}

// setProxyJump takes a list of jump hosts. They count only where neither ProxyJump nor ProxyCommand
// is set yet.
func setProxyJump(e *evaluation, d *directive) error {
	return e.setJumps(d, d.origin.Kind != FromFile)
}

// setJumps does the same for -J and for a line. With check, names that could become options or
// commands are refused at once. Without it, they are refused when the hop is resolved.
func (e *evaluation) setJumps(d *directive, check bool) error {
	arg := strings.TrimLeft(d.rest, blanks+"=")
	d.args = nil
	if strings.EqualFold(arg, "none") {
		e.set("proxyjump", "none")
		return nil
	}
	// ssh keeps a comment in the value, and so looks for a host of the name "none # note". Here the
	// comment goes, and the value is none.
	arg, _, _ = strings.Cut(arg, "#")
	arg = strings.TrimRight(arg, blanks+"\v\f")
	for hop := range strings.SplitSeq(arg, ",") {
		t, err := parseHop(hop)
		if err == nil && check {
			err = t.check()
		}
		if err != nil {
			return d.errorf("proxyjump: %v", err)
		}
	}
	if !e.values.isSet("proxycommand") && !e.values.isSet("proxyjump") {
		e.set("proxyjump", strings.Split(arg, ",")...)
		e.set("proxycommand", "none")
	}
	return nil
}

// setAgentPath takes a path, or the name of an environment variable behind a $.
func setAgentPath(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	if _, err := expand(arg, nil, e.resolver.getenv); err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	name, isVariable := strings.CutPrefix(arg, "$")
	notName := func(r rune) bool { return r > 0x7f || !isAlnum(byte(r)) && r != '_' }
	if isVariable && !strings.HasPrefix(name, "{") && (name == "" || strings.ContainsFunc(name, notName)) {
		return d.errorf("%s: bad environment variable %q", d.keyword, display.Cut(arg))
	}
	e.set(d.keyword, arg)
	return nil
}

// setForwardAgent takes yes, no, or what IdentityAgent takes. We forward no agent, but the line
// must be read and printed.
func setForwardAgent(e *evaluation, d *directive) error {
	if len(d.args) > 0 {
		switch strings.ToLower(d.args[0]) {
		case "yes", "true", "no", "false":
			return flag(e, d)
		}
	}
	return setAgentPath(e, d)
}

// setAddKeysToAgent takes yes, no, ask, confirm, a lifetime, or confirm and a lifetime.
func setAddKeysToAgent(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	life, hasLife := d.next()
	value, ok := map[string]string{
		"yes": "true", "true": "true", "no": "false", "false": "false", "ask": "ask", "confirm": "confirm",
	}[strings.ToLower(arg)]
	switch {
	case value == "confirm" && hasLife:
	case !ok && !hasLife:
		life = arg
	case ok && !hasLife:
		e.set(d.keyword, value)
		return nil
	default:
		return d.errorf("%s does not take %q", d.keyword, display.Cut(arg+" "+life))
	}
	seconds, err := parseSeconds(life)
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	if value == "" && seconds == 0 {
		value = "true"
	}
	if seconds > 0 {
		value = strings.TrimLeft(value+" "+strconv.Itoa(seconds), " ")
	}
	e.set(d.keyword, value)
	return nil
}

// setControlPersist takes yes, no or a time. A time of 0 is the same as yes: the master stays for
// ever.
func setControlPersist(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	value, ok := map[string]string{"no": "no", "false": "no", "yes": "yes", "true": "yes"}[arg]
	if !ok {
		seconds, err := parseSeconds(arg)
		if err != nil {
			return d.errorf("%s: %v", d.keyword, err)
		}
		if value = strconv.Itoa(seconds); seconds == 0 {
			value = "yes"
		}
	}
	e.set(d.keyword, value)
	return nil
}

// setRekeyLimit takes a size and perhaps an interval. Each of the two is set on its own, under a
// name of its own. They are put together when everything is read. OpenSSH refuses sizes from 1 to
// 15 bytes.
func setRekeyLimit(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	size := 0.0
	if arg != "default" {
		digits, scale := arg, 1.0
		if i := strings.IndexByte("BKMGTPE", arg[len(arg)-1]&^0x20); i >= 0 {
			digits, scale = arg[:len(arg)-1], math.Pow(1024, float64(i))
		}
		n, err := strconv.ParseFloat(digits, 64)
		if size = n * scale; err != nil || !(size == 0 || size >= 16 && size < math.MaxInt64) {
			return d.errorf("rekeylimit: bad size %q", display.Cut(arg))
		}
	}
	e.set("rekeylimit size", strconv.FormatFloat(math.Trunc(size), 'f', 0, 64))
	if len(d.args) == 0 {
		return nil
	}
	interval := *d
	interval.keyword = "rekeylimit interval"
	err = duration(e, &interval)
	d.args = interval.args
	return err
}

// setTunnelDevice takes LOCAL[:REMOTE], two numbers or "any". OpenSSH keeps the two highest numbers
// for "any" and for an error.
func setTunnelDevice(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	near, far, ok := strings.Cut(arg, ":")
	if !ok {
		far = "any"
	}
	for _, id := range []*string{&near, &far} {
		if strings.EqualFold(*id, "any") {
			*id = "any"
			continue
		}
		n, err := parseNumber(*id, math.MaxInt32-2)
		if err != nil {
			return d.errorf("tunneldevice: %v", err)
		}
		*id = strconv.Itoa(n)
	}
	e.set(d.keyword, near+":"+far)
	return nil
}

// setEscapeChar takes a character, ^ and a character, or none.
func setEscapeChar(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	switch {
	case arg == "none":
	case arg == `\`:
		arg = `\\`
	case len(arg) == 1:
	case len(arg) == 2 && arg[0] == '^' && arg[1] >= 64 && arg[1] < 128:
		arg = `\^` + string(arg[1]&31|64) // vis(3) writes it so
	default:
		return d.errorf("bad escape character %q", display.Cut(arg))
	}
	e.set(d.keyword, arg)
	return nil
}

// setStreamLocalBindMask takes an octal mode.
func setStreamLocalBindMask(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	mode, err := strconv.ParseUint(arg, 8, 16)
	if err != nil || mode > 0o777 {
		return d.errorf("bad mask %q", display.Cut(arg))
	}
	e.set(d.keyword, fmt.Sprintf("0%o", mode))
	return nil
}

// setObscureKeystrokeTiming takes yes, no or interval:MILLISECONDS. The default of 20 ms is printed
// as yes.
func setObscureKeystrokeTiming(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	value, ok := map[string]string{"yes": "yes", "true": "yes", "no": "no", "false": "no"}[arg]
	if !ok {
		interval, isInterval := strings.CutPrefix(arg, "interval:")
		n, err := parseNumber(interval, 1000)
		if !isInterval || err != nil || n == 0 {
			return d.errorf("%s does not take %q", d.keyword, display.Cut(arg))
		}
		if value = strconv.Itoa(n); n == 20 {
			value = "yes"
		}
	}
	e.set(d.keyword, value)
	return nil
}

// setVersionAddendum takes the rest of the line, with what looks like a comment.
func setVersionAddendum(e *evaluation, d *directive) error {
	value := d.rest
	d.args = nil
	if strings.EqualFold(value, "none") {
		value = ""
	}
	e.set(d.keyword, value)
	return nil
}

// refuse is RefuseConnection, by which the file itself forbids the connection.
func refuse(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err == nil && e.active {
		err = d.errorf("connection refused by the configuration: %q", display.Cut(arg))
	}
	return err
}
