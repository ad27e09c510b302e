package sshconfig

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A setter takes a directive's arguments and sets the keyword's values in the form that `ssh -G` prints.
// Arguments that it leaves are an error.
type setter func(e *evaluation, d *directive) error

// keyword is what we know of one keyword of ssh_config(5).
type keyword struct {
	name    string
	set     setter
	unset   string // what `ssh -G` prints where it is unset; "" nothing
	oneLine bool   // the values are printed on one line
}

// keywords are printed in this order, that of `ssh -G`. Those after the empty one are read and checked, but
// not printed: we do not honour them. Host, Match and Include are not here.
var keywords = []keyword{
	{name: "host"}, // the alias
	{name: "user", set: text},
	{name: "hostname", set: text},
	{name: "port", set: setPort, unset: "22"},

	{name: "addressfamily", set: choice("any|inet|inet6"), unset: "any"},
	{name: "batchmode", set: flag, unset: "no"},
	{name: "canonicalizefallbacklocal", set: flag, unset: "yes"},
	{name: "canonicalizehostname", set: choice("true yes|false no|always"), unset: "false"},
	{name: "checkhostip", set: flag, unset: "no"},
	{name: "compression", set: choice("yes|no"), unset: "no"},
	{name: "controlmaster", set: choice("true yes|false no|auto|ask|autoask"), unset: "false"},
	{name: "enablesshkeysign", set: flag, unset: "no"},
	{name: "clearallforwardings", set: flag, unset: "no"},
	{name: "exitonforwardfailure", set: flag, unset: "no"},
	{name: "fingerprinthash", set: choice("MD5|SHA1|SHA256|SHA384|SHA512"), unset: "SHA256"},
	{name: "forwardx11", set: flag, unset: "no"},
	{name: "forwardx11trusted", set: flag, unset: "no"},
	{name: "gatewayports", set: flag, unset: "no"},
	{name: "hashknownhosts", set: flag, unset: "no"},
	{name: "hostbasedauthentication", set: flag, unset: "no"},
	{name: "identitiesonly", set: flag, unset: "no"},
	{name: "kbdinteractiveauthentication", set: flag, unset: "yes"},
	{name: "nohostauthenticationforlocalhost", set: flag, unset: "no"},
	{name: "passwordauthentication", set: flag, unset: "yes"},
	{name: "permitlocalcommand", set: flag, unset: "no"},
	{name: "proxyusefdpass", set: flag, unset: "no"},
	{name: "pubkeyauthentication", set: choice("true yes|false no|unbound|host-bound"), unset: "true"},
	{name: "requesttty", set: choice("true yes|false no|force|auto"), unset: "auto"},
	{name: "sessiontype", set: choice("none|subsystem|default"), unset: "default"},
	{name: "stdinnull", set: flag, unset: "no"},
	{name: "forkafterauthentication", set: flag, unset: "no"},
	{name: "streamlocalbindunlink", set: flag, unset: "no"},
	{name: "stricthostkeychecking", set: choice("true yes|false no off|ask|accept-new"), unset: "ask"},
	{name: "tcpkeepalive", set: flag, unset: "yes"},
	{name: "tunnel", set: choice("ethernet|point-to-point|true yes|false no"), unset: "false"},
	{name: "verifyhostkeydns", set: choice("true yes|false no|ask"), unset: "false"},
	{name: "visualhostkey", set: flag, unset: "no"},
	{name: "updatehostkeys", set: choice("true yes|false no|ask")}, // the default depends on others
	{name: "enableescapecommandline", set: flag, unset: "no"},
	{name: "warnweakcrypto", set: choice("yes true|no false no-pq-kex"), unset: "yes"},

	{name: "canonicalizemaxdots", set: number, unset: "1"},
	{name: "connectionattempts", set: number, unset: "1"},
	{name: "forwardx11timeout", set: duration, unset: "1200"},
	{name: "numberofpasswordprompts", set: number, unset: "3"},
	{name: "serveralivecountmax", set: number, unset: "3"},
	{name: "serveraliveinterval", set: duration, unset: "0"},
	{name: "requiredrsasize", set: number, unset: "1024"},
	{name: "obscurekeystroketiming", set: setObscureKeystrokeTiming, unset: "yes"},

	{name: "bindaddress", set: text},
	{name: "bindinterface", set: text},
	{name: "ciphers", set: algorithms},
	{name: "controlpath", set: text},
	{name: "hostkeyalgorithms", set: algorithms},
	{name: "hostkeyalias", set: text},
	{name: "hostbasedacceptedalgorithms", set: algorithms},
	{name: "identityagent", set: setAgentPath},
	{name: "ignoreunknown", set: text},
	{name: "kbdinteractivedevices", set: text},
	{name: "kexalgorithms", set: algorithms},
	{name: "casignaturealgorithms", set: algorithms},
	{name: "localcommand", set: command},
	{name: "remotecommand", set: command},
	{name: "loglevel", set: choice("QUIET SILENT|FATAL|ERROR|INFO|VERBOSE|DEBUG DEBUG1|DEBUG2|DEBUG3"), unset: "INFO"},
	{name: "macs", set: algorithms},
	{name: "pkcs11provider", set: text},
	{name: "preferredauthentications", set: text},
	{name: "pubkeyacceptedalgorithms", set: algorithms},
	{name: "knownhostscommand", set: command},
	{name: "tag", set: text},
	{name: "versionaddendum", set: setVersionAddendum},

	{name: "dynamicforward", set: setForward},
	{name: "localforward", set: setForward},
	{name: "remoteforward", set: setForward},

	{name: "identityfile", set: setIdentity},
	{name: "canonicaldomains", set: setCanonicalDomains, unset: "none", oneLine: true},
	{name: "certificatefile", set: setIdentity},
	{name: "globalknownhostsfile", set: files, unset: "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2", oneLine: true},
	{name: "userknownhostsfile", set: files, oneLine: true},
	{name: "revokedhostkeys", set: files, unset: "none", oneLine: true},
	{name: "sendenv", set: setSendEnv},
	{name: "setenv", set: setSetEnv},
	{name: "logverbose", set: files, unset: "none", oneLine: true},
	{name: "channeltimeout", set: setChannelTimeout, unset: "none", oneLine: true},
	{name: "permitremoteopen", set: setPermitRemoteOpen, unset: "any", oneLine: true},
	{name: "addkeystoagent", set: setAddKeysToAgent, unset: "false"},
	{name: "forwardagent", set: setForwardAgent, unset: "no"},
	{name: "connecttimeout", set: duration, unset: "none"},
	{name: "tunneldevice", set: setTunnelDevice, unset: "any:any"},
	{name: "canonicalizepermittedcnames", set: setPermittedCNAMEs, unset: "none", oneLine: true},
	{name: "controlpersist", set: setControlPersist, unset: "no"},
	{name: "escapechar", set: setEscapeChar, unset: "~"},
	{name: "rekeylimit", set: setRekeyLimit, unset: "0 0", oneLine: true},
	{name: "streamlocalbindmask", set: setStreamLocalBindMask, unset: "0177"},
	{name: "syslogfacility", set: choice("DAEMON|USER|AUTH|AUTHPRIV|LOCAL0|LOCAL1|LOCAL2|LOCAL3|LOCAL4|LOCAL5|LOCAL6|LOCAL7"), unset: "USER"},
	{name: "proxycommand", set: command},
	{name: "proxyjump", set: setProxyJump},

	{},
	{name: "refuseconnection", set: refuse},
	{name: "ipqos", set: anything},
	{name: "securitykeyprovider", set: text},
	{name: "xauthlocation", set: text},
	// Of builds with GSSAPI, and of the patches that Debian and Fedora put on top.
	{name: "gssapiauthentication", set: flag},
	{name: "gssapidelegatecredentials", set: flag},
	{name: "gssapikeyexchange", set: flag},
	{name: "gssapirenewalforcesrekey", set: flag},
	{name: "gssapitrustdns", set: flag},
	{name: "gssapiclientidentity", set: text},
	{name: "gssapiserveridentity", set: text},
	{name: "gssapikexalgorithms", set: text},
	// Of the past; OpenSSH takes no notice of their values.
	{name: "protocol", set: anything},
	{name: "cipher", set: anything},
	{name: "fallbacktorsh", set: anything},
	{name: "globalknownhostsfile2", set: anything},
	{name: "rhostsauthentication", set: anything},
	{name: "userknownhostsfile2", set: anything},
	{name: "useroaming", set: anything},
	{name: "usersh", set: anything},
	{name: "useprivilegedport", set: anything},
	{name: "afstokenpassing", set: anything},
	{name: "kerberosauthentication", set: anything},
	{name: "kerberostgtpassing", set: anything},
	{name: "rsaauthentication", set: anything},
	{name: "rhostsrsaauthentication", set: anything},
	{name: "compressionlevel", set: anything},
}

// keywordAliases are older names that OpenSSH still takes.
var keywordAliases = map[string]string{
	"smartcarddevice":                 "pkcs11provider",
	"challengeresponseauthentication": "kbdinteractiveauthentication",
	"skeyauthentication":              "kbdinteractiveauthentication",
	"tisauthentication":               "kbdinteractiveauthentication",
	"dsaauthentication":               "pubkeyauthentication",
	"identityfile2":                   "identityfile",
	"keepalive":                       "tcpkeepalive",
	"hostbasedkeytypes":               "hostbasedacceptedalgorithms",
	"pubkeyacceptedkeytypes":          "pubkeyacceptedalgorithms",
}

// setters finds a keyword's setter by its name.
var setters = func() map[string]setter {
	index := make(map[string]setter)
	for _, k := range keywords {
		if k.set != nil {
			index[k.name] = k.set
		}
	}
	return index
}()

// argument takes one argument that must be there.
func argument(d *directive) (string, error) {
	arg, ok := d.next()
	if !ok {
		return "", d.errorf("%s has no argument", d.keyword)
	}
	return arg, nil
}

func text(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err == nil {
		e.set(d.keyword, arg)
	}
	return err
}

// command takes the rest of the line as it is, comments too.
func command(e *evaluation, d *directive) error {
	e.set(d.keyword, strings.TrimLeft(d.rest, blanks+"="))
	d.args = nil
	return nil
}

func anything(_ *evaluation, d *directive) error {
	d.args = nil
	return nil
}

// choice makes the setter of an enumeration: values are separated by '|', other spellings of a value follow
// the one that is printed.
func choice(values string) setter {
	printed := make(map[string]string)
	for value := range strings.SplitSeq(values, "|") {
		spellings := strings.Fields(value)
		for _, s := range spellings {
			printed[strings.ToLower(s)] = spellings[0]
		}
	}
	return func(e *evaluation, d *directive) error {
		arg, err := argument(d)
		if err != nil {
			return err
		}
		value, ok := printed[strings.ToLower(arg)]
		if !ok {
			return d.errorf("%s does not take %q", d.keyword, cut(arg))
		}
		e.set(d.keyword, value)
		return nil
	}
}

var flag = choice("yes true|no false")

// parseNumber reads an integer from 0 to limit, as strtonum(3) does.
func parseNumber(s string, limit int64) (int, error) {
	n, err := strconv.ParseInt(strings.TrimLeft(s, " \t\n\v\f\r"), 10, 64)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("bad number %q", cut(s))
	}
	return int(n), nil
}

func number(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	n, err := parseNumber(arg, math.MaxInt32)
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	e.set(d.keyword, strconv.Itoa(n))
	return nil
}

// parseSeconds reads a time: numbers with a unit of s, m, h, d or w, added up; one may lack its unit
// or have decimals, and is then seconds (convtime of OpenSSH).
func parseSeconds(s string) (int, error) {
	bad := fmt.Errorf("bad time %q", cut(s))
	total, seconds := 0.0, false
	for rest := s; rest != ""; {
		end := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		digits := rest[:end]
		n, err := strconv.ParseFloat(digits, 64)
		if err != nil {
			return 0, bad
		}
		unit := byte('s')
		if end < len(rest) {
			unit = rest[end] | 0x20
			end++
		}
		scale, ok := map[byte]float64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400, 'w': 604800}[unit]
		if !ok || strings.Contains(digits, ".") && (unit != 's' || digits[len(digits)-1] == '.') {
			return 0, bad
		}
		if unit == 's' {
			if seconds {
				return 0, bad
			}
			seconds = true
		}
		total += n * scale
		rest = rest[end:]
	}
	if s == "" || total > math.MaxInt32 {
		return 0, bad
	}
	return int(total), nil
}

// duration sets a time in seconds. "none" leaves the keyword unset.
func duration(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil || arg == "none" {
		return err
	}
	n, err := parseSeconds(arg)
	if err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	e.set(d.keyword, strconv.Itoa(n))
	return nil
}

func algorithms(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	if err := e.release.checkAlgorithms(d.keyword, arg); err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	e.set(d.keyword, arg)
	return nil
}

// maxFiles bounds the entries of UserKnownHostsFile and the like.
const maxFiles = 32

// words takes all arguments; each must pass check. "none" stands alone.
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

func files(e *evaluation, d *directive) error {
	list, err := words(d, nil)
	if err != nil {
		return err
	}
	if e.active && len(list) > maxFiles && d.keyword != "logverbose" {
		return d.errorf("%s has more than %d entries", d.keyword, maxFiles)
	}
	if d.keyword == "logverbose" {
		list = list[:1] // a slip of OpenSSH's, up to 10.5
	}
	e.set(d.keyword, list...)
	return nil
}

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

// maxIdentities bounds IdentityFile and CertificateFile.
const maxIdentities = 100

// setIdentity adds to IdentityFile or CertificateFile; duplicates within a kind of file do not count.
func setIdentity(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil || !e.active {
		return err
	}
	if len(e.values[d.keyword]) >= maxIdentities {
		return d.errorf("more than %d of %s", maxIdentities, d.keyword)
	}
	// The same file named in the user's and in the system's file is listed twice (userprovided in OpenSSH).
	key := fmt.Sprint(d.keyword, e.userFile, "\x00", arg)
	if !e.seen[key] {
		e.seen[key] = true
		e.values[d.keyword] = append(e.values[d.keyword], arg)
	}
	return nil
}

func setProxyJump(e *evaluation, d *directive) error {
	arg := strings.TrimLeft(d.rest, blanks+"=")
	d.args = nil
	if strings.EqualFold(arg, "none") {
		e.set("proxyjump", "none")
		return nil
	}
	// "none # note" thereby is none, while ssh goes on to look for a host of that name.
	arg, _, _ = strings.Cut(arg, "#")
	arg = strings.TrimRight(arg, blanks+"\v\f")
	for hop := range strings.SplitSeq(arg, ",") {
		t, err := parseHop(hop)
		if err == nil && d.file == "" {
			err = t.check()
		}
		if err != nil {
			return d.errorf("proxyjump: %v", err)
		}
	}
	if !e.isSet("proxycommand") && !e.isSet("proxyjump") {
		e.set("proxyjump", strings.Split(arg, ",")...)
		e.set("proxycommand", "none")
	}
	return nil
}

func setAgentPath(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	if _, err := expand(arg, nil, e.r.getenv); err != nil {
		return d.errorf("%s: %v", d.keyword, err)
	}
	name, isVariable := strings.CutPrefix(arg, "$")
	notName := func(r rune) bool { return r > 0x7f || !isAlnum(byte(r)) && r != '_' }
	if isVariable && !strings.HasPrefix(name, "{") && (name == "" || strings.ContainsFunc(name, notName)) {
		return d.errorf("%s: bad environment variable %q", d.keyword, cut(arg))
	}
	e.set(d.keyword, arg)
	return nil
}

func setForwardAgent(e *evaluation, d *directive) error {
	if len(d.args) > 0 {
		switch strings.ToLower(d.args[0]) {
		case "yes", "true", "no", "false":
			return flag(e, d)
		}
	}
	return setAgentPath(e, d)
}

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
		return d.errorf("%s does not take %q", d.keyword, cut(arg+" "+life))
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

// setSendEnv adds to the list, or with a leading '-' takes matching names from it.
func setSendEnv(e *evaluation, d *directive) error {
	if len(d.args) == 0 {
		return d.errorf("%s has no argument", d.keyword)
	}
	for len(d.args) > 0 {
		name, ok := d.next()
		if !ok || strings.Contains(name, "=") {
			return d.errorf("bad environment variable %q", cut(name))
		}
		if !e.active {
			continue
		}
		pattern, remove := strings.CutPrefix(name, "-")
		if !remove {
			e.values["sendenv"] = append(e.values["sendenv"], name)
			continue
		}
		var kept []string
		for _, have := range e.values["sendenv"] {
			if !matchPattern(have, pattern) {
				kept = append(kept, have)
			}
		}
		e.values["sendenv"] = kept
	}
	return nil
}

func setSetEnv(e *evaluation, d *directive) error {
	var list []string
	seen := make(map[string]bool)
	if len(d.args) == 0 {
		return d.errorf("%s has no argument", d.keyword)
	}
	for _, arg := range d.args {
		name, _, ok := strings.Cut(arg, "=")
		if !ok {
			return d.errorf("setenv: %q has no '='", cut(arg))
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

func setPermittedCNAMEs(e *evaluation, d *directive) error {
	list, err := words(d, func(s string) error {
		if _, to, ok := strings.Cut(s, ":"); s != "*" && (!ok || to == "") {
			return fmt.Errorf("bad rule %q", cut(s))
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
			return d.errorf("rekeylimit: bad size %q", cut(arg))
		}
	}
	// Size and interval are set apart from each other; both are kept under names of their own.
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
		arg = `\^` + string(arg[1]&31|64) // as vis(3) shows it
	default:
		return d.errorf("bad escape character %q", cut(arg))
	}
	e.set(d.keyword, arg)
	return nil
}

// setStreamLocalBindMask takes an octal mode; against the rule the last one wins.
func setStreamLocalBindMask(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err != nil {
		return err
	}
	mode, err := strconv.ParseUint(arg, 8, 16)
	if err != nil || mode > 0o777 {
		return d.errorf("bad mask %q", cut(arg))
	}
	// OpenSSH sets it even in a block that does not match.
	e.values[d.keyword] = []string{fmt.Sprintf("0%o", mode)}
	return nil
}

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
			return d.errorf("%s does not take %q", d.keyword, cut(arg))
		}
		if value = strconv.Itoa(n); n == 20 {
			value = "yes"
		}
	}
	e.set(d.keyword, value)
	return nil
}

func setChannelTimeout(e *evaluation, d *directive) error {
	list, err := words(d, func(s string) error {
		name, interval, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return fmt.Errorf("bad timeout %q", cut(s))
		}
		_, err := parseSeconds(interval)
		return err
	})
	if err == nil {
		e.set(d.keyword, list...)
	}
	return err
}

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
			return fmt.Errorf("bad address %q", cut(s))
		}
		return nil
	})
	if err == nil {
		e.set(d.keyword, list...)
	}
	return err
}

func setVersionAddendum(e *evaluation, d *directive) error {
	value := d.rest // comments and all
	d.args = nil
	if strings.EqualFold(value, "none") {
		value = ""
	}
	e.set(d.keyword, value)
	return nil
}

// refuse is RefuseConnection: the file itself says that there is to be no connection.
func refuse(e *evaluation, d *directive) error {
	arg, err := argument(d)
	if err == nil && e.active {
		err = d.errorf("connection refused by the configuration: %q", cut(arg))
	}
	return err
}
