package sshconfig

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

// finish fills in defaults, expands tokens and makes the Host, in the order of ssh.c.
func (e *evaluation) finish() (*Host, error) {
	fail := func(keyword string, err error) error {
		return &Error{File: e.r.UserFile, Msg: keyword + ": " + err.Error()}
	}
	e.active = true // from here on, set fills in what is unset
	identitiesSet := e.isSet("identityfile")
	aliveSet := e.isSet("serveraliveinterval")
	reorder := strings.HasPrefix(e.first("hostkeyalgorithms"), "+") || strings.HasPrefix(e.first("hostkeyalgorithms"), "-")
	e.clearNone()
	e.setDefaults()
	for keyword := range e.release.known {
		list, err := e.release.assembleAlgorithms(keyword, e.first(keyword))
		if err != nil {
			return nil, fail(keyword, err)
		}
		if e.isSet(keyword) {
			e.values[keyword] = []string{list}
		}
	}
	jump, err := e.checkJump()
	if err != nil {
		return nil, err
	}
	if e.first("connectionattempts") == "0" {
		return nil, fail("connectionattempts", fmt.Errorf("must be at least 1"))
	}
	if e.first("forkafterauthentication") == "yes" && !e.isSet("remotecommand") && e.first("sessiontype") != "none" {
		return nil, fail("forkafterauthentication", fmt.Errorf("needs a command to run"))
	}

	keyAlias := lowerASCII(e.first("hostkeyalias"))
	if keyAlias != "" {
		e.values["hostkeyalias"] = []string{keyAlias}
	} else {
		keyAlias = e.target.host
	}
	tokens := e.tokens(e.host, keyAlias, jump)
	if err := e.expandUser(tokens); err != nil {
		return nil, fail("user", err)
	}
	tokens = e.tokens(e.host, keyAlias, jump) // %r and %C are known now
	if err := e.expandValues(tokens); err != nil {
		return nil, err
	}
	h := e.makeHost(identitiesSet, aliveSet)
	h.tokens, h.HostKeyAlgorithmsRelative = tokens, reorder

	proxyTokens := maps.Clone(tokens)
	maps.DeleteFunc(proxyTokens, func(c byte, _ string) bool { return !strings.ContainsRune("hknpr", rune(c)) })
	if h.ProxyCommand, err = expand(e.first("proxycommand"), proxyTokens, nil); err != nil {
		return nil, fail("proxycommand", err)
	}
	for _, hop := range e.values["proxyjump"] {
		if hop, err = expand(hop, proxyTokens, nil); err != nil {
			return nil, fail("proxyjump", err)
		}
		h.ProxyJump = append(h.ProxyJump, hop)
	}
	paths := func(keyword string, dollar func(string) string) []string {
		if err != nil {
			return nil
		}
		var out []string
		if out, err = e.expandPaths(e.values[keyword], tokens, dollar); err != nil {
			err = fail(keyword, err)
		}
		return out
	}
	h.IdentityFiles = paths("identityfile", e.r.getenv)
	h.CertificateFiles = paths("certificatefile", e.r.getenv)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// clearNone unsets the keywords for which "none" says so.
func (e *evaluation) clearNone() {
	for _, keyword := range []string{
		"localcommand", "remotecommand", "proxycommand", "controlpath", "pkcs11provider", "knownhostscommand",
		"channeltimeout", "revokedhostkeys", "canonicalizepermittedcnames",
	} {
		if v := e.values[keyword]; len(v) == 1 && (v[0] == "" || strings.EqualFold(v[0], "none")) {
			delete(e.values, keyword)
		}
	}
	if e.first("proxyjump") == "none" {
		delete(e.values, "proxyjump")
	}
}

// setDefaults gives unset keywords the values that `ssh -G` prints for them.
func (e *evaluation) setDefaults() {
	updates := "false"
	if known := e.values["userknownhostsfile"]; e.first("verifyhostkeydns") != "true" && e.first("verifyhostkeydns") != "ask" &&
		(len(known) == 0 || len(known) == 1 && known[0] == "~/.ssh/known_hosts") {
		updates = "true"
	}
	e.set("updatehostkeys", updates)
	e.set("userknownhostsfile", "~/.ssh/known_hosts", "~/.ssh/known_hosts2")
	e.set("identityfile", e.release.identityFiles...)
	e.set("user", e.r.local().user)
	if e.target.isHop { // -W does without the forwards of the files
		e.set("clearallforwardings", "yes")
		e.set("exitonforwardfailure", "yes")
	}
	if e.first("clearallforwardings") == "yes" {
		e.forwards = nil
	}
	if e.isSet("rekeylimit size") || e.isSet("rekeylimit interval") {
		size, interval := e.first("rekeylimit size"), e.first("rekeylimit interval")
		if size == "" {
			size = "0"
		}
		if interval == "" {
			interval = "0"
		}
		e.set("rekeylimit", size, interval)
	}
	for _, k := range keywords {
		if k.unset != "" {
			values := []string{k.unset}
			if k.oneLine && k.unset != "none" {
				values = strings.Fields(k.unset)
			}
			e.set(k.name, values...)
		}
	}
	quiet := map[string]bool{"QUIET": true, "FATAL": true, "ERROR": true}
	if e.first("updatehostkeys") == "ask" &&
		(e.first("controlpersist") != "no" && e.isSet("controlpath") || e.isSet("remotecommand") ||
			e.first("requesttty") == "false" || quiet[e.first("loglevel")]) {
		e.values["updatehostkeys"] = []string{"false"}
	}
}

// checkJump returns %j, and refuses a host that is its own jump host.
func (e *evaluation) checkJump() (string, error) {
	jumps := e.values["proxyjump"]
	if len(jumps) == 0 {
		return "", nil
	}
	t, err := parseHop(jumps[len(jumps)-1])
	if err != nil {
		return "", &Error{Msg: err.Error()}
	}
	port, user := t.port, t.user
	if port == 0 {
		port = 22
	}
	if user == "" {
		user = e.user()
	}
	if t.host == e.host && port == e.port() && user == e.user() {
		return "", &Error{File: e.r.UserFile, Msg: fmt.Sprintf("jump host loop via %q", cut(t.host))}
	}
	return t.host, nil
}

// expandUser expands what a file or -o says. A name that came out of an expansion is checked like one of the command line.
func (e *evaluation) expandUser(tokens map[byte]string) error {
	name := e.first("user")
	if e.userCommandLine || name == e.r.local().user {
		return nil
	}
	tokens = maps.Clone(tokens)
	delete(tokens, 'r')
	delete(tokens, 'C')
	expanded, err := expand(name, tokens, e.r.getenv)
	if err != nil {
		return err
	}
	if expanded != name && !validUser(expanded) {
		return fmt.Errorf("%q has characters that are not allowed", cut(expanded))
	}
	e.values["user"] = []string{expanded}
	return nil
}

// expandPaths expands ~ and tokens, and with a getenv variables. "none" is dropped.
func (e *evaluation) expandPaths(paths []string, tokens map[byte]string, getenv func(string) string) ([]string, error) {
	var out []string
	for _, path := range paths {
		if strings.EqualFold(path, "none") {
			continue
		}
		path, err := e.r.expandTilde(path)
		if err == nil {
			path, err = expand(path, tokens, getenv)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, path)
	}
	return out, nil
}

// expandValues expands the values that `ssh -G` prints expanded.
func (e *evaluation) expandValues(tokens map[byte]string) error {
	for _, x := range []struct {
		keyword             string
		tilde, dollar, list bool
	}{
		{keyword: "remotecommand"},
		{keyword: "controlpath", tilde: true, dollar: true},
		{keyword: "identityagent", tilde: true, dollar: true},
		{keyword: "revokedhostkeys", tilde: true, dollar: true},
		{keyword: "forwardagent", tilde: true, dollar: true},
		{keyword: "versionaddendum", dollar: true},
		{keyword: "userknownhostsfile", tilde: true, dollar: true},
		{keyword: "setenv", dollar: true},
	} {
		values := e.values[x.keyword]
		expanded := make([]string, 0, len(values))
		for _, v := range values {
			var prefix string
			var err error
			if x.keyword == "setenv" { // the name stays
				name, _, _ := strings.Cut(v, "=")
				prefix, v = name+"=", v[len(name)+1:]
			}
			if x.tilde {
				v, err = e.r.expandTilde(v)
			}
			if err == nil {
				getenv := e.r.getenv
				if !x.dollar {
					getenv = nil
				}
				v, err = expand(v, tokens, getenv)
			}
			if err != nil {
				return &Error{File: e.r.UserFile, Msg: x.keyword + ": " + err.Error()}
			}
			expanded = append(expanded, prefix+v)
		}
		if len(values) > 0 {
			e.values[x.keyword] = expanded
		}
	}
	for i := range e.forwards {
		for _, path := range []*string{&e.forwards[i].listen.path, &e.forwards[i].connect.path} {
			var err error
			if *path, err = expand(*path, tokens, nil); err != nil {
				return &Error{File: e.r.UserFile, Msg: e.forwards[i].keyword + ": " + err.Error()}
			}
		}
	}
	return nil
}

// makeHost turns the values into fields. They have all been checked, so conversions cannot fail.
func (e *evaluation) makeHost(identitiesSet, aliveSet bool) *Host {
	yes := func(keyword string) bool { v := e.first(keyword); return v == "yes" || v == "true" }
	num := func(keyword string) int { n, _ := strconv.Atoi(e.first(keyword)); return n }
	seconds := func(keyword string) time.Duration { return time.Duration(num(keyword)) * time.Second }
	list := func(keyword string) []string {
		if e.first(keyword) == "" {
			return nil
		}
		return strings.Split(e.first(keyword), ",")
	}
	paths := func(keyword string) []string {
		if strings.EqualFold(e.first(keyword), "none") {
			return nil
		}
		return e.values[keyword]
	}
	word := func(keyword string) string { // true and false as most other keywords have them
		switch v := e.first(keyword); v {
		case "true":
			return "yes"
		case "false":
			return "no"
		default:
			return v
		}
	}
	h := &Host{
		Alias:    e.target.host,
		HostName: e.host,
		Port:     e.port(),
		User:     e.first("user"),

		IdentityFilesSet: identitiesSet,
		IdentitiesOnly:   yes("identitiesonly"),
		IdentityAgent:    e.agent(),
		AddKeysToAgent:   word("addkeystoagent"),

		UserKnownHostsFiles:              paths("userknownhostsfile"),
		GlobalKnownHostsFiles:            paths("globalknownhostsfile"),
		RevokedHostKeyFiles:              paths("revokedhostkeys"),
		KnownHostsCommand:                e.first("knownhostscommand"),
		HostKeyAlias:                     e.first("hostkeyalias"),
		StrictHostKeyChecking:            word("stricthostkeychecking"),
		HashKnownHosts:                   yes("hashknownhosts"),
		UpdateHostKeys:                   word("updatehostkeys"),
		CheckHostIP:                      yes("checkhostip"),
		NoHostAuthenticationForLocalhost: yes("nohostauthenticationforlocalhost"),

		HostKeyAlgorithms:        list("hostkeyalgorithms"),
		KexAlgorithms:            list("kexalgorithms"),
		Ciphers:                  list("ciphers"),
		MACs:                     list("macs"),
		PubkeyAcceptedAlgorithms: list("pubkeyacceptedalgorithms"),
		CASignatureAlgorithms:    list("casignaturealgorithms"),

		PreferredAuthentications:     list("preferredauthentications"),
		PubkeyAuthentication:         e.first("pubkeyauthentication") != "false",
		PasswordAuthentication:       yes("passwordauthentication"),
		KbdInteractiveAuthentication: yes("kbdinteractiveauthentication"),
		NumberOfPasswordPrompts:      num("numberofpasswordprompts"),
		BatchMode:                    yes("batchmode"),

		AddressFamily:       e.first("addressfamily"),
		BindAddress:         e.first("bindaddress"),
		ConnectTimeout:      seconds("connecttimeout"),
		ConnectionAttempts:  num("connectionattempts"),
		ServerAliveInterval: seconds("serveraliveinterval"),
		ServerAliveCountMax: num("serveralivecountmax"),
		ServerAliveSet:      aliveSet,
		TCPKeepAlive:        yes("tcpkeepalive"),
		ControlPath:         e.first("controlpath"),
		Tunnel:              e.first("tunnel") != "false",
		ForwardX11:          yes("forwardx11"),
		settings:            e.settings(),
	}
	if len(h.RevokedHostKeyFiles) > 0 {
		h.RevokedHostKeys = h.RevokedHostKeyFiles[0]
	}
	return h
}

// agent is where IdentityAgent leads: "" to SSH_AUTH_SOCK.
func (e *evaluation) agent() string {
	agent := e.first("identityagent")
	name, isVariable := strings.CutPrefix(agent, "$")
	switch {
	case agent == "SSH_AUTH_SOCK":
		return ""
	case isVariable:
		if socket := e.r.getenv(name); socket != "" {
			return socket
		}
		return "none"
	default:
		return agent
	}
}

// settings lists the lines of `ssh -G`.
func (e *evaluation) settings() []setting {
	var out []setting
	add := func(keyword string, values ...string) {
		for _, v := range values {
			out = append(out, setting{keyword, v})
		}
	}
	for _, k := range keywords {
		switch k.name {
		case "":
			return out
		case "host":
			add(k.name, e.target.host)
		case "hostname":
			add(k.name, e.host)
		case "dynamicforward", "localforward", "remoteforward":
			for _, f := range e.forwards {
				switch {
				// `ssh -G` takes a local forward to a socket for a dynamic one, too.
				case k.name == "dynamicforward" && (f.keyword == k.name || f.keyword == "localforward" && f.connect.path != ""):
					add(k.name, f.listen.String())
				case f.keyword != k.name:
				case f.socks:
					add(k.name, f.listen.String()+" [socks]:0")
				default:
					add(k.name, f.listen.String()+" "+f.connect.String())
				}
			}
		case "proxyjump":
			if jumps := e.values[k.name]; len(jumps) > 0 {
				last := len(jumps) - 1
				t, _ := parseHop(jumps[last])
				add(k.name, strings.Join(append(jumps[:last:last], printHop(t)), ","))
			}
		case "ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "hostbasedacceptedalgorithms",
			"pubkeyacceptedalgorithms", "casignaturealgorithms":
			if e.isSet(k.name) {
				add(k.name, e.first(k.name))
			} else {
				add(k.name, e.release.defaults[k.name])
			}
		default:
			values := e.values[k.name]
			if k.oneLine {
				add(k.name, strings.Join(values, " "))
			} else {
				add(k.name, values...)
			}
		}
	}
	return out
}

// printHop writes a jump host as `ssh -G` does.
func printHop(t target) string {
	s := t.host
	if strings.Contains(s, ":") || strings.Trim(s, "0123456789.") == "" {
		s = "[" + s + "]"
	}
	if t.user != "" {
		s = t.user + "@" + s
	}
	if t.port != 0 {
		s += ":" + strconv.Itoa(t.port)
	}
	return s
}
