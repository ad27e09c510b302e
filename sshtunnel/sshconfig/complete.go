package sshconfig

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sallyport/sshtunnel/display"
)

// completion turns what the command line and the files have set into a Host, in the order of ssh.c:
// defaults, lists of algorithms, tokens.
type completion struct {
	*evaluation
	// tokens holds what stands for each letter. It is set once the user is known.
	tokens map[byte]string
}

// fault says that the value of a keyword is wrong, and where it was set. For a default, the user's
// file is named, because that is the place to set another value.
func (e *evaluation) fault(keyword string, err error) error {
	origin := e.values.origin(keyword)
	if origin.Kind == FromDefault {
		origin.File = e.resolver.UserFile
	}
	return origin.errorf("%s: %v", keyword, err)
}

// complete makes the Host of an evaluation that has read everything.
func complete(e *evaluation) (*Host, error) {
	c := &completion{evaluation: e}
	// These five must be known before the defaults hide them.
	identitiesSet := e.values.isSet("identityfile")
	aliveSet := e.values.isSet("serveraliveinterval")
	timeoutSet := e.values.isSet("connecttimeout") || e.values.isSet(connectTimeoutNone)
	hostKeyAlgorithms := e.values.first("hostkeyalgorithms")
	relative := strings.HasPrefix(hostKeyAlgorithms, "+") || strings.HasPrefix(hostKeyAlgorithms, "-")
	c.clearNone()
	c.setDefaults()
	if err := c.assembleAlgorithms(); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := c.setTokens(); err != nil {
		return nil, err
	}
	if err := c.expandValues(); err != nil {
		return nil, err
	}
	if err := c.expandForwards(); err != nil {
		return nil, err
	}
	h := newHost(e.values)
	h.Alias, h.HostName, h.Port, h.User = e.target.host, e.host.text, e.port(), e.values.first("user")
	h.IdentityFilesSet, h.ServerAliveSet, h.HostKeyAlgorithmsRelative = identitiesSet, aliveSet, relative
	h.ConnectTimeoutSet = timeoutSet
	h.IdentityAgent = c.agent()
	h.settings, h.tokens, h.named = e.settings(), c.tokens, e.blocks.named
	if err := c.expandFields(h); err != nil {
		return nil, err
	}
	return h, nil
}

// clearNone unsets the keywords whose value "none" means that they are not set. OpenSSH does so in
// fill_default_options (CLEAR_ON_NONE).
func (c *completion) clearNone() {
	for _, keyword := range []string{
		"localcommand", "remotecommand", "proxycommand", "controlpath", "pkcs11provider", "knownhostscommand",
		"channeltimeout", "revokedhostkeys", "canonicalizepermittedcnames",
	} {
		if v := c.values.texts(keyword); len(v) == 1 && (v[0] == "" || strings.EqualFold(v[0], "none")) {
			delete(c.values, keyword)
		}
	}
	if c.values.first("proxyjump") == "none" {
		delete(c.values, "proxyjump")
	}
}

// setDefaults gives unset keywords the values that `ssh -G` prints for them. It follows
// fill_default_options of OpenSSH.
func (c *completion) setDefaults() {
	v := c.values
	v.setDefault("updatehostkeys", c.defaultUpdateHostKeys())
	v.setDefault("userknownhostsfile", "~/.ssh/known_hosts", "~/.ssh/known_hosts2")
	v.setDefault("identityfile", c.release.identityFiles...)
	v.setDefault("user", c.local.user)
	if c.target.isHop { // -W leaves out the forwards of the files
		v.setDefault("clearallforwardings", "yes")
		v.setDefault("exitonforwardfailure", "yes")
	}
	if v.first("clearallforwardings") == "yes" {
		c.forwards = nil
	}
	if v.isSet("rekeylimit size") || v.isSet("rekeylimit interval") {
		v.setDefault("rekeylimit size", "0")
		v.setDefault("rekeylimit interval", "0")
		v["rekeylimit"] = []value{v["rekeylimit size"][0], v["rekeylimit interval"][0]}
	}
	for _, k := range keywords {
		switch {
		case k.unset == "":
		case k.oneLine && k.unset != "none":
			v.setDefault(k.name, strings.Fields(k.unset)...)
		default:
			v.setDefault(k.name, k.unset)
		}
	}
	if v.isSet("proxyjump") { // the ssh that reaches the jump host carries the bytes itself
		v.replace("proxyusefdpass", "no")
	}
	// ssh.c turns the question off where nobody could answer it.
	if v.first("updatehostkeys") == "ask" && c.cannotAsk() {
		v.replace("updatehostkeys", "false")
	}
}

// defaultUpdateHostKeys returns the default of UpdateHostKeys: on, unless DNS vouches for keys or
// the user has chosen another known_hosts file.
func (c *completion) defaultUpdateHostKeys() string {
	dns := c.values.first("verifyhostkeydns")
	files := c.values.texts("userknownhostsfile")
	if dns != "true" && dns != "ask" && (len(files) == 0 || len(files) == 1 && files[0] == "~/.ssh/known_hosts") {
		return "true"
	}
	return "false"
}

// cannotAsk tells whether ssh would have no terminal to ask on when UpdateHostKeys has a question.
func (c *completion) cannotAsk() bool {
	v := c.values
	switch v.first("loglevel") {
	case "QUIET", "FATAL", "ERROR":
		return true
	}
	return v.first("controlpersist") != "no" && v.isSet("controlpath") || v.isSet("remotecommand") ||
		v.first("requesttty") == "false"
}

// assembleAlgorithms applies the +, - and ^ forms of the lists of algorithms. A list that nothing
// is left of is refused, but not for host-based logins, which we do not do.
func (c *completion) assembleAlgorithms() error {
	for _, keyword := range slices.Sorted(maps.Keys(c.release.known)) {
		list, unknown, err := c.release.assembleAlgorithms(keyword, c.values.first(keyword))
		origin := c.values.origin(keyword)
		if err != nil && keyword == "hostbasedacceptedalgorithms" {
			c.resolver.skipped(origin, keyword, err)
			delete(c.values, keyword)
			continue
		}
		if err != nil {
			return c.fault(keyword, err)
		}
		for _, name := range unknown {
			c.resolver.skipped(origin, keyword, fmt.Errorf("unknown algorithm %q", display.Cut(name)))
		}
		if c.values.isSet(keyword) {
			c.values.replace(keyword, list)
		}
	}
	return nil
}

// check refuses what ssh refuses once it knows all values. These checks are in ssh.c, after the
// files were read.
func (c *completion) check() error {
	if jumps := c.values.texts("proxyjump"); len(jumps) > 0 {
		t, err := parseHop(jumps[len(jumps)-1])
		if err != nil {
			return c.fault("proxyjump", err)
		}
		port, user := t.port, t.user
		if port == 0 {
			port = 22
		}
		if user == "" {
			user = c.user()
		}
		// The last hop is the destination itself. Longer loops are found by Chain.
		if t.host == c.host.text && port == c.port() && user == c.user() {
			return c.fault("proxyjump", fmt.Errorf("jump host loop via %q", display.Cut(t.host)))
		}
	}
	if c.values.first("connectionattempts") == "0" {
		return c.fault("connectionattempts", errors.New("must be at least 1"))
	}
	return nil
}

// setTokens expands the user, and then knows all tokens.
func (c *completion) setTokens() error {
	keyAlias := lowerASCII(c.values.first("hostkeyalias"))
	if keyAlias != "" {
		c.values.replace("hostkeyalias", keyAlias)
	} else {
		keyAlias = c.target.host
	}
	jump := c.jumpHost()
	if err := c.expandUser(c.makeTokens(c.host.text, keyAlias, jump)); err != nil {
		return c.fault("user", err)
	}
	c.tokens = c.makeTokens(c.host.text, keyAlias, jump) // %r and %C are right now
	return nil
}

// expandUser expands what a file or -o says about the user. A name that comes out of an expansion
// is checked like one of the command line. A user that was typed before the @ is not expanded.
func (c *completion) expandUser(tokens map[byte]string) error {
	name := c.values.first("user")
	if c.userTyped || name == c.local.user {
		return nil
	}
	delete(tokens, 'r') // they depend on the user
	delete(tokens, 'C')
	expanded, err := expand(name, tokens, c.resolver.getenv)
	if err != nil {
		return err
	}
	if expanded != name && !validUser(expanded) {
		return badUser(expanded)
	}
	c.values.replace("user", expanded)
	return nil
}

// expansions are the keywords that `ssh -G` prints expanded.
var expansions = []struct {
	// keyword is the name of the keyword in lower case.
	keyword string
	// tilde says that a leading ~ is expanded, and dollar that ${NAME} is. Tokens always are.
	tilde, dollar bool
}{
	{keyword: "remotecommand"},
	{keyword: "controlpath", tilde: true, dollar: true},
	{keyword: "identityagent", tilde: true, dollar: true},
	{keyword: "revokedhostkeys", tilde: true, dollar: true},
	{keyword: "forwardagent", tilde: true, dollar: true},
	{keyword: "versionaddendum", dollar: true},
	{keyword: "userknownhostsfile", tilde: true, dollar: true},
	{keyword: "setenv", dollar: true},
}

// expandValues expands tokens, tildes and variables of the values that `ssh -G` prints expanded.
func (c *completion) expandValues() error {
	for _, x := range expansions {
		texts := c.values.texts(x.keyword)
		for i, text := range texts {
			var prefix string
			if x.keyword == "setenv" { // the name of the variable stays
				name, _, _ := strings.Cut(text, "=")
				prefix, text = name+"=", text[len(name)+1:]
			}
			expanded, err := c.expandText(text, x.tilde, x.dollar)
			if err != nil {
				return c.fault(x.keyword, err)
			}
			texts[i] = prefix + expanded
		}
		if len(texts) > 0 {
			c.values.replace(x.keyword, texts...)
		}
	}
	return nil
}

// expandText expands tokens and, if asked to, a leading tilde and environment variables.
func (c *completion) expandText(text string, tilde, dollar bool) (string, error) {
	if tilde {
		var err error
		if text, err = c.local.expandTilde(text); err != nil {
			return "", err
		}
	}
	if !dollar {
		return expand(text, c.tokens, nil)
	}
	return expand(text, c.tokens, c.resolver.getenv)
}

// expandForwards expands the tokens in the socket paths of forwards.
func (c *completion) expandForwards() error {
	for i := range c.forwards {
		f := &c.forwards[i]
		for _, path := range []*string{&f.listen.path, &f.connect.path} {
			var err error
			if *path, err = expand(*path, c.tokens, nil); err != nil {
				return f.origin.errorf("%s: %v", f.keyword, err)
			}
		}
	}
	return nil
}
