package sshconfig

import (
	"fmt"
	"slices"
	"strings"

	"sallyport/sshtunnel/display"
)

// words takes all arguments. Each must pass check, if there is one. "none" must stand alone.
func words(d *directive, check func(string) error) ([]string, error) {
	if len(d.args) == 0 {
		return nil, d.errorf("%s has no argument", d.keyword)
	}
	all := d.args
	d.args = nil
	for _, word := range all {
		if strings.EqualFold(word, "none") && len(all) > 1 {
			return nil, d.errorf("%s: \"none\" must stand alone", d.keyword)
		}
		if word == "" {
			return nil, d.errorf("%s has an empty argument", d.keyword)
		}
		if check == nil || strings.EqualFold(word, "none") {
			continue
		}
		if err := check(word); err != nil {
			return nil, d.errorf("%s: %v", d.keyword, err)
		}
	}
	return all, nil
}

// maxFiles is the most files that UserKnownHostsFile and the like may name. OpenSSH has the same
// limit (SSH_MAX_HOSTS_FILES).
const maxFiles = 32

// files takes a list of files.
func files(e *evaluation, d *directive) error {
	list, err := words(d, nil)
	if err != nil {
		return err
	}
	if e.active && len(list) > maxFiles && d.keyword != "logverbose" {
		return d.errorf("%s has more than %d entries", d.keyword, maxFiles)
	}
	if d.keyword == "logverbose" {
		list = list[:1] // OpenSSH up to 10.5 forgets the others
	}
	e.set(d.keyword, list...)
	return nil
}

// maxIdentities is the most lines of IdentityFile, and of CertificateFile. It is
// SSH_MAX_IDENTITY_FILES of OpenSSH.
const maxIdentities = 100

// setIdentity adds to IdentityFile or CertificateFile, unless the file is listed already. A file
// that both the user's and the system's ssh_config name is listed twice, as in OpenSSH
// (userprovided).
func setIdentity(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil || !e.active {
		return err
	}
	if len(e.values[d.keyword]) >= maxIdentities {
		return d.errorf("more than %d of %s", maxIdentities, d.keyword)
	}
	key := fmt.Sprint(d.keyword, e.inUserFile, "\x00", arg)
	if !e.identities[key] {
		e.identities[key] = true
		e.values[d.keyword] = append(e.values[d.keyword], value{arg, d.origin})
	}
	return nil
}

// setSendEnv adds names to the list. A pattern with a leading '-' takes the names that match it off
// the list. Against the rule that the first value wins, all lines add up (ssh_config(5), SendEnv).
func setSendEnv(e *evaluation, d *directive) error {
	if len(d.args) == 0 {
		return d.errorf("%s has no argument", d.keyword)
	}
	for len(d.args) > 0 {
		name, ok := d.next()
		if !ok || strings.Contains(name, "=") {
			return d.errorf("bad environment variable %q", display.Cut(name))
		}
		if !e.active {
			continue
		}
		pattern, remove := strings.CutPrefix(name, "-")
		if !remove {
			e.values["sendenv"] = append(e.values["sendenv"], value{name, d.origin})
			continue
		}
		matches := func(v value) bool { return matchPattern(v.text, pattern) }
		e.values["sendenv"] = slices.DeleteFunc(e.values["sendenv"], matches)
	}
	return nil
}

// setSetEnv takes a list of NAME=VALUE. The first value of a name wins.
func setSetEnv(e *evaluation, d *directive) error {
	var list []string
	seen := make(map[string]bool)
	if len(d.args) == 0 {
		return d.errorf("%s has no argument", d.keyword)
	}
	for _, arg := range d.args {
		name, _, ok := strings.Cut(arg, "=")
		if !ok {
			return d.errorf("setenv: %q has no '='", display.Cut(arg))
		}
		if !seen[name] {
			seen[name] = true
			list = append(list, arg)
		}
	}
	d.args = nil
	e.set(d.keyword, list...)
	return nil
}

// setCanonicalDomains takes a list of domains. They are kept without a dot at the end, which
// searchDomains adds.
func setCanonicalDomains(e *evaluation, d *directive) error {
	list, err := words(d, func(s string) error { _, err := cleanDomain(s); return err })
	if err != nil {
		return err
	}
	for i, s := range list {
		list[i] = strings.TrimSuffix(strings.ToLower(s), ".")
	}
	e.set(d.keyword, list...)
	return nil
}

// setPermittedCNAMEs takes a list of FROM:TO, where both are lists of patterns. A single * stands
// for *:*.
func setPermittedCNAMEs(e *evaluation, d *directive) error {
	list, err := words(d, func(s string) error {
		if _, to, ok := strings.Cut(s, ":"); s != "*" && (!ok || to == "") {
			return fmt.Errorf("bad rule %q", display.Cut(s))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, s := range list {
		if list[i] = strings.ToLower(s); s == "*" {
			list[i] = "*:*"
		}
	}
	e.set(d.keyword, list...)
	return nil
}

// setChannelTimeout takes a list of CHANNEL=TIME.
func setChannelTimeout(e *evaluation, d *directive) error {
	list, err := words(d, func(s string) error {
		name, interval, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return fmt.Errorf("bad timeout %q", display.Cut(s))
		}
		_, err := parseSeconds(interval)
		return err
	})
	if err == nil {
		e.set(d.keyword, list...)
	}
	return err
}

// setPermitRemoteOpen takes a list of HOST:PORT. The port may be *, and the word any stands alone.
func setPermitRemoteOpen(e *evaluation, d *directive) error {
	several := len(d.args) > 1
	list, err := words(d, func(s string) error {
		if strings.EqualFold(s, "any") {
			if several {
				return fmt.Errorf("\"any\" must stand alone")
			}
			return nil
		}
		if host, ok := strings.CutSuffix(s, ":*"); ok && host != "" {
			return nil
		}
		if _, port, err := cutPort(s); err != nil || port == 0 {
			return fmt.Errorf("bad address %q", display.Cut(s))
		}
		return nil
	})
	if err == nil {
		e.set(d.keyword, list...)
	}
	return err
}
