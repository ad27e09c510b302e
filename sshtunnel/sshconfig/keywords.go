package sshconfig

// keyword is what we know of one keyword of ssh_config(5).
type keyword struct {
	// name is in lower case. It is empty for the end of what `ssh -G` prints.
	name string
	// set takes the arguments of a line. It is nil for the alias, which no line sets.
	set setter
	// unset is what `ssh -G` prints where the keyword is unset; "" is nothing.
	unset string
	// oneLine says that `ssh -G` prints all values on one line.
	oneLine bool
	// noEffect says that the keyword changes nothing here. A bad value is then no reason to refuse
	// a host. Some of these keywords still have a part in Match or in the defaults of others.
	noEffect bool
}

// keywords holds all keywords but Host, Match and Include, in the order in which `ssh -G` prints
// them. Those after the empty one are read and checked, and not printed, because they mean nothing
// to us.
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
	{name: "compression", set: choice("yes|no"), unset: "no", noEffect: true},
	{name: "controlmaster", set: choice("true yes|false no|auto|ask|autoask"), unset: "false", noEffect: true},
	{name: "enablesshkeysign", set: flag, unset: "no", noEffect: true},
	{name: "clearallforwardings", set: flag, unset: "no", noEffect: true},
	{name: "exitonforwardfailure", set: flag, unset: "no", noEffect: true},
	{name: "fingerprinthash", set: choice("MD5|SHA1|SHA256|SHA384|SHA512"), unset: "SHA256", noEffect: true},
	{name: "forwardx11", set: flag, unset: "no", noEffect: true},
	{name: "forwardx11trusted", set: flag, unset: "no", noEffect: true},
	{name: "gatewayports", set: flag, unset: "no", noEffect: true},
	{name: "hashknownhosts", set: flag, unset: "no"},
	{name: "hostbasedauthentication", set: flag, unset: "no", noEffect: true},
	{name: "identitiesonly", set: flag, unset: "no"},
	{name: "kbdinteractiveauthentication", set: flag, unset: "yes"},
	{name: "nohostauthenticationforlocalhost", set: flag, unset: "no"},
	{name: "passwordauthentication", set: flag, unset: "yes"},
	{name: "permitlocalcommand", set: flag, unset: "no", noEffect: true},
	{name: "proxyusefdpass", set: flag, unset: "no"},
	{name: "pubkeyauthentication", set: choice("true yes|false no|unbound|host-bound"), unset: "true"},
	{name: "requesttty", set: choice("true yes|false no|force|auto"), unset: "auto", noEffect: true},
	{name: "sessiontype", set: choice("none|subsystem|default"), unset: "default", noEffect: true},
	{name: "stdinnull", set: flag, unset: "no", noEffect: true},
	{name: "forkafterauthentication", set: flag, unset: "no", noEffect: true},
	{name: "streamlocalbindunlink", set: flag, unset: "no", noEffect: true},
	{name: "stricthostkeychecking", set: choice("true yes|false no off|ask|accept-new"), unset: "ask"},
	{name: "tcpkeepalive", set: choice("yes true transport|no false|all"), unset: "yes"},
	{name: "tunnel", set: choice("ethernet|point-to-point true yes|false no"), unset: "false", noEffect: true},
	{name: "verifyhostkeydns", set: choice("true yes|false no|ask"), unset: "false", noEffect: true},
	{name: "visualhostkey", set: flag, unset: "no", noEffect: true},
	{name: "updatehostkeys", set: choice("true yes|false no|ask")}, // its default depends on other keywords
	{name: "enableescapecommandline", set: flag, unset: "no", noEffect: true},
	{name: "warnweakcrypto", set: choice("yes true|no false no-pq-kex"), unset: "yes", noEffect: true},

	{name: "canonicalizemaxdots", set: number, unset: "1"},
	{name: "connectionattempts", set: number, unset: "1"},
	{name: "forwardx11timeout", set: duration, unset: "1200", noEffect: true},
	{name: "numberofpasswordprompts", set: number, unset: "3"},
	{name: "serveralivecountmax", set: number, unset: "3"},
	{name: "serveraliveinterval", set: duration, unset: "0"},
	{name: "requiredrsasize", set: number, unset: "1024"},
	{name: "obscurekeystroketiming", set: setObscureKeystrokeTiming, unset: "yes", noEffect: true},

	{name: "bindaddress", set: text},
	{name: "bindinterface", set: text, noEffect: true},
	{name: "ciphers", set: text},
	{name: "controlpath", set: text},
	{name: "hostkeyalgorithms", set: text},
	{name: "hostkeyalias", set: text},
	{name: "hostbasedacceptedalgorithms", set: text, noEffect: true},
	{name: "identityagent", set: setAgentPath},
	{name: "ignoreunknown", set: text},
	{name: "kbdinteractivedevices", set: text, noEffect: true},
	{name: "kexalgorithms", set: text},
	{name: "casignaturealgorithms", set: text},
	{name: "localcommand", set: command, noEffect: true},
	{name: "remotecommand", set: command, noEffect: true},
	{name: "loglevel", set: choice("QUIET SILENT|FATAL|ERROR|INFO|VERBOSE|DEBUG DEBUG1|DEBUG2|DEBUG3"), unset: "INFO", noEffect: true},
	{name: "macs", set: text},
	{name: "pkcs11provider", set: text, noEffect: true},
	{name: "preferredauthentications", set: text},
	{name: "pubkeyacceptedalgorithms", set: text},
	{name: "knownhostscommand", set: command},
	{name: "tag", set: text},
	{name: "versionaddendum", set: setVersionAddendum, noEffect: true},

	{name: "dynamicforward", set: setForward, noEffect: true},
	{name: "localforward", set: setForward, noEffect: true},
	{name: "remoteforward", set: setForward, noEffect: true},

	{name: "identityfile", set: setIdentity},
	{name: "canonicaldomains", set: setCanonicalDomains, unset: "none", oneLine: true},
	{name: "certificatefile", set: setIdentity},
	{
		name: "globalknownhostsfile", set: files,
		unset: "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2", oneLine: true,
	},
	{name: "userknownhostsfile", set: files, oneLine: true},
	{name: "revokedhostkeys", set: files, unset: "none", oneLine: true},
	{name: "sendenv", set: setSendEnv, noEffect: true},
	{name: "setenv", set: setSetEnv, noEffect: true},
	{name: "logverbose", set: files, unset: "none", oneLine: true, noEffect: true},
	{name: "channeltimeout", set: setChannelTimeout, unset: "none", oneLine: true, noEffect: true},
	{name: "permitremoteopen", set: setPermitRemoteOpen, unset: "any", oneLine: true, noEffect: true},
	{name: "addkeystoagent", set: setAddKeysToAgent, unset: "false"},
	{name: "forwardagent", set: setForwardAgent, unset: "no", noEffect: true},
	{name: "connecttimeout", set: duration, unset: "none"},
	{name: "tunneldevice", set: setTunnelDevice, unset: "any:any", noEffect: true},
	{name: "canonicalizepermittedcnames", set: setPermittedCNAMEs, unset: "none", oneLine: true},
	{name: "controlpersist", set: setControlPersist, unset: "no", noEffect: true},
	{name: "escapechar", set: setEscapeChar, unset: "~", noEffect: true},
	{name: "rekeylimit", set: setRekeyLimit, unset: "0 0", oneLine: true, noEffect: true},
	{name: "streamlocalbindmask", set: setStreamLocalBindMask, unset: "0177", noEffect: true},
	{
		name: "syslogfacility", noEffect: true, unset: "USER",
		set: choice("DAEMON|USER|AUTH|AUTHPRIV|LOCAL0|LOCAL1|LOCAL2|LOCAL3|LOCAL4|LOCAL5|LOCAL6|LOCAL7"),
	},
	{name: "proxycommand", set: command},
	{name: "proxyjump", set: setProxyJump},

	{},
	{name: "refuseconnection", set: refuse},
	{name: "ipqos", set: anything, noEffect: true},
	{name: "securitykeyprovider", set: text},
	{name: "xauthlocation", set: text, noEffect: true},
	// Builds with GSSAPI, and the patches of Debian and Fedora, know these.
	{name: "gssapiauthentication", set: flag, noEffect: true},
	{name: "gssapidelegatecredentials", set: flag, noEffect: true},
	{name: "gssapikeyexchange", set: flag, noEffect: true},
	{name: "gssapirenewalforcesrekey", set: flag, noEffect: true},
	{name: "gssapitrustdns", set: flag, noEffect: true},
	{name: "gssapiclientidentity", set: text, noEffect: true},
	{name: "gssapiserveridentity", set: text, noEffect: true},
	{name: "gssapikexalgorithms", set: text, noEffect: true},
	// OpenSSH takes no notice of the values of these any more.
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

// setters finds a keyword's setter by its name, and withoutEffect has the names of those whose
// value changes nothing here.
var setters, withoutEffect = func() (map[string]setter, map[string]bool) {
	set, noEffect := make(map[string]setter, len(keywords)), make(map[string]bool)
	for _, k := range keywords {
		if k.set != nil {
			set[k.name] = k.set
		}
		if k.noEffect {
			noEffect[k.name] = true
		}
	}
	return set, noEffect
}()
