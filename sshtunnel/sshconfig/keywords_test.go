package sshconfig

import (
	"strings"
	"testing"
)

// openSSHKeywords are all keywords and their older names in readconf.c of OpenSSH 10.5. The release
// notes of 10.6 add none.
const openSSHKeywords = `
	addkeystoagent addressfamily afstokenpassing batchmode bindaddress bindinterface
	canonicaldomains canonicalizefallbacklocal canonicalizehostname canonicalizemaxdots
	canonicalizepermittedcnames casignaturealgorithms certificatefile
	challengeresponseauthentication channeltimeout checkhostip cipher ciphers clearallforwardings
	compression compressionlevel connectionattempts connecttimeout controlmaster controlpath
	controlpersist dsaauthentication dynamicforward enableescapecommandline enablesshkeysign
	escapechar exitonforwardfailure fallbacktorsh fingerprinthash forkafterauthentication
	forwardagent forwardx11 forwardx11timeout forwardx11trusted gatewayports globalknownhostsfile
	globalknownhostsfile2 gssapiauthentication gssapidelegatecredentials hashknownhosts host
	hostbasedacceptedalgorithms hostbasedauthentication hostbasedkeytypes hostkeyalgorithms
	hostkeyalias hostname identitiesonly identityagent identityfile identityfile2 ignoreunknown
	include ipqos kbdinteractiveauthentication kbdinteractivedevices keepalive
	kerberosauthentication kerberostgtpassing kexalgorithms knownhostscommand localcommand
	localforward loglevel logverbose macs match nohostauthenticationforlocalhost
	numberofpasswordprompts obscurekeystroketiming passwordauthentication permitlocalcommand
	permitremoteopen pkcs11provider port preferredauthentications protocol proxycommand proxyjump
	proxyusefdpass pubkeyacceptedalgorithms pubkeyacceptedkeytypes pubkeyauthentication
	refuseconnection rekeylimit remotecommand remoteforward requesttty requiredrsasize
	revokedhostkeys rhostsauthentication rhostsrsaauthentication rsaauthentication
	securitykeyprovider sendenv serveralivecountmax serveraliveinterval sessiontype setenv
	skeyauthentication smartcarddevice stdinnull streamlocalbindmask streamlocalbindunlink
	stricthostkeychecking syslogfacility tag tcpkeepalive tisauthentication tunnel tunneldevice
	updatehostkeys useprivilegedport user userknownhostsfile userknownhostsfile2 useroaming usersh
	verifyhostkeydns versionaddendum visualhostkey warnweakcrypto xauthlocation
`

// Every keyword of ssh is known: it is used, or it is read and has no effect.
func TestKeywordsOfOpenSSHAreKnown(t *testing.T) {
	for name := range strings.FieldsSeq(openSSHKeywords) {
		switch name {
		case "host", "match", "include":
			continue
		}
		if alias := keywordAliases[name]; alias != "" {
			name = alias
		}
		if setters[name] == nil {
			t.Errorf("%s is not known", name)
		}
	}
}

// A keyword that a Host has a field for must not be among those without effect, because a bad value
// of those is skipped.
func TestKeywordsWithEffect(t *testing.T) {
	for name := range strings.FieldsSeq(`
		user hostname port proxyjump proxycommand proxyusefdpass identityfile certificatefile identitiesonly identityagent
		addkeystoagent securitykeyprovider requiredrsasize userknownhostsfile globalknownhostsfile revokedhostkeys
		knownhostscommand hostkeyalias stricthostkeychecking hashknownhosts updatehostkeys checkhostip
		nohostauthenticationforlocalhost hostkeyalgorithms kexalgorithms ciphers macs pubkeyacceptedalgorithms
		casignaturealgorithms preferredauthentications pubkeyauthentication passwordauthentication
		kbdinteractiveauthentication numberofpasswordprompts batchmode addressfamily bindaddress connecttimeout
		connectionattempts serveraliveinterval serveralivecountmax tcpkeepalive controlpath refuseconnection tag
		canonicalizehostname canonicaldomains canonicalizemaxdots canonicalizefallbacklocal canonicalizepermittedcnames`) {
		if setters[name] == nil || withoutEffect[name] {
			t.Errorf("%s: known %v, without effect %v", name, setters[name] != nil, withoutEffect[name])
		}
	}
}
