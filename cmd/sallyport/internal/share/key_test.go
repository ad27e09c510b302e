package share

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// keyCase is one configuration of the tests of the key.
type keyCase struct {
	// config is the text of ssh_config.
	config string
	// destination is what the person typed; "" is web.
	destination string
	// options and jump are those of -o and -J.
	options []string
	jump    string
	// variables are the environment.
	variables map[string]string
	// controlMaster is --control-master.
	controlMaster sshtunnel.MasterUse
}

// keyOf returns the key that a process with this configuration makes.
func (k keyCase) keyOf(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(k.config), 0o600); err != nil {
		t.Fatal(err)
	}
	env := environment.Fixed(k.variables, "/home/person")
	r := &sshconfig.Resolver{
		UserFile: file, Home: "/home/person", User: "person", UID: "1000", LocalHostname: "here.example",
		Options: k.options, Jump: k.jump, Getenv: env.Getenv,
	}
	destination := k.destination
	if destination == "" {
		destination = "web"
	}
	chain, err := r.Chain(t.Context(), destination)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, k.config)
	}
	client := NewClient(Config{Env: env, IsOwn: cli.IsOwnVariable, Settings: Settings{ControlMaster: k.controlMaster}})
	return client.way(chain).key()
}

// base is a configuration that leaves every keyword free but those that a row cannot do without.
const base = "Host web\n HostName web.example\n"

// TestEveryFieldIsInTheKey sets each field of a Host to another value. The key changes, but for the
// fields that have a reason not to be in it.
func TestEveryFieldIsInTheKey(t *testing.T) {
	client := NewClient(Config{Env: environment.Fixed(nil, ""), IsOwn: cli.IsOwnVariable})
	keyWith := func(set func(*sshconfig.Host)) string {
		h := &sshconfig.Host{Alias: "a", HostName: "b", KnownHostsCommand: "/bin/keys %n"}
		set(h)
		return client.way([]*sshconfig.Host{h}).key()
	}
	plain := keyWith(func(*sshconfig.Host) {})
	seen := map[string]string{}
	for field := range reflect.TypeFor[sshconfig.Host]().Fields() {
		if notInKey[field.Name] != "" {
			continue
		}
		if !field.IsExported() {
			t.Errorf("%s is neither in the key nor in the list with a reason", field.Name)
			continue
		}
		key := keyWith(func(h *sshconfig.Host) { setOther(reflect.ValueOf(h).Elem().FieldByIndex(field.Index)) })
		if key == plain {
			t.Errorf("%s changes no key", field.Name)
		}
		if other := seen[key]; other != "" {
			t.Errorf("%s and %s have the same key", field.Name, other)
		}
		seen[key] = field.Name
	}
	for name, reason := range notInKey {
		if _, ok := reflect.TypeFor[sshconfig.Host]().FieldByName(name); !ok || len(reason) < 20 {
			t.Errorf("the list has %s with the reason %q", name, reason)
		}
	}
	// An empty list of algorithms allows nothing, and a missing one what is usual.
	if keyWith(func(h *sshconfig.Host) { h.Ciphers = []string{} }) == plain {
		t.Error("an empty list and a missing one have the same key")
	}
	if keyWith(func(h *sshconfig.Host) { h.User = "\xff" }) == keyWith(func(h *sshconfig.Host) { h.User = "\xfe" }) {
		t.Error("bytes that are no UTF-8 have the same key")
	}
}

func setOther(v reflect.Value) {
	switch {
	case v.Kind() == reflect.String:
		v.SetString("another")
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(4711)
	default:
		v.Set(reflect.ValueOf([]string{"another"}))
	}
}

// keywordRow is the row of one keyword: two values for it, and whether they may share.
type keywordRow struct {
	// one and other are values of the keyword. An empty one leaves the keyword out.
	one, other string
	// same says why the key is the same all the same. It is empty where the keys differ.
	same string
	// with is what both configurations have besides.
	with string
}

// Reasons for keywords that change no key.
const (
	noForward   = "sallyport opens what its own flags say, and no forward of ssh_config"
	noSession   = "it speaks of an interactive session, and sallyport has none"
	noMaster    = "sallyport starts no ControlMaster; ControlPath, which it may use, is in the key"
	notDone     = "sallyport does not have this method of login, whatever the keyword says"
	onlyLog     = "it changes what ssh logs"
	notSpoken   = "sallyport does not have this part of the protocol"
	obsolete    = "OpenSSH itself takes no notice of it any more"
	resolvedBy  = "it has a part in the resolution only; what it leads to is in the key"
	otherToggle = "it has a part in the default of another keyword only, which is in the key"
)

// keywordRows has a row for each keyword of ssh_config.
var keywordRows = map[string]keywordRow{
	"host":    {one: "web", other: "w*b", same: resolvedBy},
	"match":   {one: "host web.example", other: "all", same: resolvedBy},
	"include": {one: "/nowhere/a", other: "/nowhere/b", same: resolvedBy},

	"hostname": {one: "a.example", other: "b.example"},
	"port":     {one: "22", other: "2022"},
	"user":     {one: "ann", other: "bob"},

	"addressfamily":       {one: "inet", other: "inet6"},
	"bindaddress":         {one: "127.0.0.1", other: "127.0.0.2"},
	"connectionattempts":  {one: "1", other: "2"},
	"connecttimeout":      {one: "", other: "5"},
	"tcpkeepalive":        {one: "yes", other: "no"},
	"serveraliveinterval": {one: "", other: "0"},
	"serveralivecountmax": {one: "3", other: "4"},
	"proxycommand":        {one: "nc %h %p", other: "nc -x proxy %h %p"},
	"proxyjump":           {one: "ann@jump", other: "bob@jump"},
	"proxyusefdpass":      {one: "yes", other: "no", with: " ProxyCommand nc %h %p\n"},
	"controlpath":         {one: "~/a", other: "~/b"},

	"identityfile":                 {one: "~/.ssh/a", other: "~/.ssh/b"},
	"identityfile2":                {one: "~/.ssh/a", other: "~/.ssh/b"},
	"certificatefile":              {one: "~/.ssh/a-cert.pub", other: "~/.ssh/b-cert.pub"},
	"identitiesonly":               {one: "yes", other: "no"},
	"identityagent":                {one: "/a", other: "/b"},
	"addkeystoagent":               {one: "no", other: "confirm"},
	"securitykeyprovider":          {one: "/a.so", other: "/b.so"},
	"requiredrsasize":              {one: "1024", other: "3072"},
	"preferredauthentications":     {one: "publickey", other: "password"},
	"pubkeyauthentication":         {one: "yes", other: "no"},
	"dsaauthentication":            {one: "yes", other: "no"},
	"passwordauthentication":       {one: "yes", other: "no"},
	"kbdinteractiveauthentication": {one: "yes", other: "no"},
	"numberofpasswordprompts":      {one: "3", other: "1"},
	"batchmode":                    {one: "yes", other: "no"},

	"challengeresponseauthentication": {one: "yes", other: "no"},
	"skeyauthentication":              {one: "yes", other: "no"},
	"tisauthentication":               {one: "yes", other: "no"},
	"keepalive":                       {one: "yes", other: "no"},

	"userknownhostsfile":               {one: "~/a", other: "~/b"},
	"globalknownhostsfile":             {one: "/a", other: "/b"},
	"revokedhostkeys":                  {one: "/a", other: "/b"},
	"knownhostscommand":                {one: "/bin/a %H", other: "/bin/a %I"},
	"hostkeyalias":                     {one: "a", other: "b"},
	"stricthostkeychecking":            {one: "yes", other: "accept-new"},
	"hashknownhosts":                   {one: "yes", other: "no", same: notInKey["HashKnownHosts"]},
	"updatehostkeys":                   {one: "yes", other: "no"},
	"checkhostip":                      {one: "yes", other: "no"},
	"nohostauthenticationforlocalhost": {one: "yes", other: "no"},
	"verifyhostkeydns":                 {one: "no", other: "yes", same: otherToggle, with: " UpdateHostKeys no\n"},

	"hostkeyalgorithms":        {one: "ssh-ed25519", other: "rsa-sha2-512"},
	"kexalgorithms":            {one: "curve25519-sha256", other: "ecdh-sha2-nistp256"},
	"ciphers":                  {one: "aes256-ctr", other: "aes128-ctr"},
	"macs":                     {one: "hmac-sha2-256", other: "hmac-sha2-512"},
	"pubkeyacceptedalgorithms": {one: "ssh-ed25519", other: "rsa-sha2-512"},
	"pubkeyacceptedkeytypes":   {one: "ssh-ed25519", other: "rsa-sha2-512"},
	"casignaturealgorithms":    {one: "ssh-ed25519", other: "rsa-sha2-512"},

	"canonicalizehostname":        {one: "no", other: "yes", same: resolvedBy},
	"canonicaldomains":            {one: "a.example", other: "b.example", same: resolvedBy},
	"canonicalizemaxdots":         {one: "1", other: "2", same: resolvedBy},
	"canonicalizefallbacklocal":   {one: "yes", other: "no", same: resolvedBy},
	"canonicalizepermittedcnames": {one: "none", other: "*.a:*.b", same: resolvedBy, with: " ProxyCommand nc\n"},
	"tag":                         {one: "a", other: "b", same: resolvedBy},
	"ignoreunknown":               {one: "A", other: "B", same: resolvedBy},
	"refuseconnection":            {one: "", other: "", same: "a host that is refused has no chain"},

	"dynamicforward":       {one: "1080", other: "1081", same: noForward},
	"localforward":         {one: "1080 a:1", other: "1080 b:1", same: noForward},
	"remoteforward":        {one: "1080 a:1", other: "1080 b:1", same: noForward},
	"clearallforwardings":  {one: "yes", other: "no", same: noForward},
	"exitonforwardfailure": {one: "yes", other: "no", same: noForward},
	"gatewayports":         {one: "yes", other: "no", same: noForward},
	"permitremoteopen":     {one: "any", other: "none", same: noForward},
	"streamlocalbindmask":  {one: "0177", other: "0111", same: noForward},

	"streamlocalbindunlink": {one: "yes", other: "no", same: noForward},
	"tunnel":                {one: "yes", other: "no", same: noForward},
	"tunneldevice":          {one: "any", other: "1", same: noForward},
	"forwardagent":          {one: "yes", other: "no", same: "sallyport forwards no agent, whatever the keyword says"},
	"forwardx11":            {one: "yes", other: "no", same: noForward},
	"forwardx11timeout":     {one: "10", other: "20", same: noForward},
	"forwardx11trusted":     {one: "yes", other: "no", same: noForward},
	"xauthlocation":         {one: "/a", other: "/b", same: noForward},

	"controlmaster":  {one: "auto", other: "no", same: noMaster},
	"controlpersist": {one: "yes", other: "no", same: noMaster},

	"requesttty":              {one: "auto", other: "force", same: noSession},
	"remotecommand":           {one: "a", other: "b", same: noSession},
	"sessiontype":             {one: "default", other: "none", same: noSession},
	"stdinnull":               {one: "yes", other: "no", same: noSession},
	"forkafterauthentication": {one: "yes", other: "no", same: noSession},
	"localcommand":            {one: "a", other: "b", same: noSession},
	"permitlocalcommand":      {one: "yes", other: "no", same: noSession},
	"sendenv":                 {one: "A", other: "B", same: noSession},
	"setenv":                  {one: "A=1", other: "A=2", same: noSession},
	"escapechar":              {one: "~", other: "none", same: noSession},
	"enableescapecommandline": {one: "yes", other: "no", same: noSession},
	"obscurekeystroketiming":  {one: "yes", other: "no", same: noSession},
	"channeltimeout":          {one: "none", other: "session=1m", same: noSession},

	"loglevel":        {one: "INFO", other: "DEBUG", same: onlyLog},
	"logverbose":      {one: "none", other: "kex.c:*", same: onlyLog},
	"syslogfacility":  {one: "USER", other: "AUTH", same: onlyLog},
	"fingerprinthash": {one: "SHA256", other: "MD5", same: onlyLog},
	"visualhostkey":   {one: "yes", other: "no", same: onlyLog},
	"warnweakcrypto":  {one: "yes", other: "no", same: onlyLog},

	"hostbasedauthentication":     {one: "yes", other: "no", same: notDone},
	"hostbasedacceptedalgorithms": {one: "ssh-ed25519", other: "rsa-sha2-512", same: notDone},
	"hostbasedkeytypes":           {one: "ssh-ed25519", other: "rsa-sha2-512", same: notDone},
	"enablesshkeysign":            {one: "yes", other: "no", same: notDone},
	"kbdinteractivedevices":       {one: "a", other: "b", same: notDone},
	"pkcs11provider":              {one: "/a", other: "/b", same: notDone},
	"smartcarddevice":             {one: "/a", other: "/b", same: notDone},
	"gssapiauthentication":        {one: "yes", other: "no", same: notDone},
	"gssapidelegatecredentials":   {one: "yes", other: "no", same: notDone},
	"gssapikeyexchange":           {one: "yes", other: "no", same: notDone},
	"gssapirenewalforcesrekey":    {one: "yes", other: "no", same: notDone},
	"gssapitrustdns":              {one: "yes", other: "no", same: notDone},
	"gssapiclientidentity":        {one: "a", other: "b", same: notDone},
	"gssapiserveridentity":        {one: "a", other: "b", same: notDone},
	"gssapikexalgorithms":         {one: "a", other: "b", same: notDone},

	"bindinterface":   {one: "lo", other: "eth0", same: notSpoken},
	"compression":     {one: "yes", other: "no", same: notSpoken},
	"ipqos":           {one: "ef", other: "none", same: notSpoken},
	"rekeylimit":      {one: "1G", other: "2G", same: notSpoken},
	"versionaddendum": {one: "a", other: "b", same: notSpoken},

	"protocol":                {one: "1", other: "2", same: obsolete},
	"cipher":                  {one: "a", other: "b", same: obsolete},
	"compressionlevel":        {one: "1", other: "2", same: obsolete},
	"fallbacktorsh":           {one: "yes", other: "no", same: obsolete},
	"globalknownhostsfile2":   {one: "/a", other: "/b", same: obsolete},
	"userknownhostsfile2":     {one: "/a", other: "/b", same: obsolete},
	"rhostsauthentication":    {one: "yes", other: "no", same: obsolete},
	"rhostsrsaauthentication": {one: "yes", other: "no", same: obsolete},
	"rsaauthentication":       {one: "yes", other: "no", same: obsolete},
	"useroaming":              {one: "yes", other: "no", same: obsolete},
	"usersh":                  {one: "yes", other: "no", same: obsolete},
	"useprivilegedport":       {one: "yes", other: "no", same: obsolete},
	"afstokenpassing":         {one: "yes", other: "no", same: obsolete},
	"kerberosauthentication":  {one: "yes", other: "no", same: obsolete},
	"kerberostgtpassing":      {one: "yes", other: "no", same: obsolete},
}

// TestEveryKeyword compares the keys of two configurations that differ in one keyword only.
func TestEveryKeyword(t *testing.T) {
	for _, keyword := range sshconfig.Keywords() {
		row, ok := keywordRows[keyword]
		if !ok {
			t.Errorf("%s has no row", keyword)
			continue
		}
		t.Run(keyword, func(t *testing.T) {
			one, other := keyCase{config: row.config(keyword, row.one)}, keyCase{config: row.config(keyword, row.other)}
			if same := one.keyOf(t) == other.keyOf(t); same != (row.same != "") {
				t.Errorf("%q and %q: the key is the same: %v, want %v (%s)", row.one, row.other, same, !same, row.same)
			}
		})
	}
	known := sshconfig.Keywords()
	for keyword := range keywordRows {
		if !slices.Contains(known, keyword) {
			t.Errorf("%s has a row, and is no keyword", keyword)
		}
	}
}

// config is an ssh_config with the value of the keyword.
func (r keywordRow) config(keyword, value string) string {
	switch {
	case keyword == "host" || keyword == "match":
		return fmt.Sprintf("Host web\n HostName web.example\n%s %s\n User ann\n", keyword, value)
	case keyword == "hostname":
		return fmt.Sprintf("Host web\n%s %s\n", keyword, value)
	case value == "":
		return base + r.with
	}
	return fmt.Sprintf("%s%s %s %s\n", base, r.with, keyword, value)
}

// TestWhoShares is about all else that may differ between two processes.
func TestWhoShares(t *testing.T) {
	proxied := base + " ProxyCommand nc %h %p\n"
	vars := func(pairs ...string) map[string]string {
		m := map[string]string{"HOME": "/home/person"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	tests := []struct {
		name       string
		one, other keyCase
		same       bool
	}{
		{"two names of one host", keyCase{config: "Host web w2\n HostName web.example\n"},
			keyCase{config: "Host web w2\n HostName web.example\n", destination: "w2"}, true},
		{"an alias and what it stands for", keyCase{config: "Host web\n HostName web.example\n User ann\n Port 2022\n"},
			keyCase{config: "\n", destination: "ssh://ann@web.example:2022"}, true},
		{"a name in a token", keyCase{config: "Host web w2\n HostName web.example\n IdentityFile ~/.ssh/%n\n"},
			keyCase{config: "Host web w2\n HostName web.example\n IdentityFile ~/.ssh/%n\n", destination: "w2"}, false},
		{"a name in a token of KnownHostsCommand", keyCase{config: "Host web w2\n HostName web.example\n KnownHostsCommand /bin/keys %n\n"},
			keyCase{config: "Host web w2\n HostName web.example\n KnownHostsCommand /bin/keys %n\n", destination: "w2"}, false},
		{"the order of blocks", keyCase{config: "Host web\n User ann\nHost x\n Port 1\nHost *.example\n Port 3\n"},
			keyCase{config: "Host *.example\n Port 3\nHost x\n Port 1\nHost web\n User ann\n"}, true},
		{"a comment", keyCase{config: base}, keyCase{config: "# words\n" + base + "\n"}, true},
		{"-o", keyCase{config: base}, keyCase{config: base, options: []string{"User=bob"}}, false},
		{"-o that says what the file says", keyCase{config: base + " User bob\n"}, keyCase{config: base, options: []string{"User=bob"}}, true},
		{"-J", keyCase{config: base}, keyCase{config: base, jump: "jump"}, false},
		{"-J and ProxyJump", keyCase{config: base + " ProxyJump jump\n"}, keyCase{config: base, jump: "jump"}, true},
		{"another user at the hop", keyCase{config: base, jump: "ann@jump"}, keyCase{config: base, jump: "bob@jump"}, false},
		{"the order of hops", keyCase{config: base, jump: "a,b"}, keyCase{config: base, jump: "b,a"}, false},
		{"--control-master", keyCase{config: base}, keyCase{config: base, controlMaster: sshtunnel.MasterAuto}, false},

		{"the agent", keyCase{config: base, variables: vars("SSH_AUTH_SOCK", "/a")}, keyCase{config: base, variables: vars("SSH_AUTH_SOCK", "/b")}, false},
		{"no agent", keyCase{config: base, variables: vars("SSH_AUTH_SOCK", "/a")}, keyCase{config: base}, false},
		{"an agent that is not used", keyCase{config: base + " IdentityAgent /c\n", variables: vars("SSH_AUTH_SOCK", "/a")},
			keyCase{config: base + " IdentityAgent /c\n", variables: vars("SSH_AUTH_SOCK", "/b")}, true},
		{"the agent of a variable", keyCase{config: base + " IdentityAgent $X\n", variables: vars("X", "/a")},
			keyCase{config: base + " IdentityAgent $X\n", variables: vars("X", "/b")}, false},
		{"the provider of security keys", keyCase{config: base, variables: vars("SSH_SK_PROVIDER", "/a")}, keyCase{config: base}, false},
		{"a provider that a variable names", keyCase{config: base + " SecurityKeyProvider $X\n", variables: vars("X", "/a")},
			keyCase{config: base + " SecurityKeyProvider $X\n", variables: vars("X", "/b")}, false},
		{"PATH without a command", keyCase{config: base, variables: vars("PATH", "/a")}, keyCase{config: base, variables: vars("PATH", "/b")}, true},
		{"PATH of a ProxyCommand", keyCase{config: proxied, variables: vars("PATH", "/a")}, keyCase{config: proxied, variables: vars("PATH", "/b")}, false},
		{"SHELL of a ProxyCommand", keyCase{config: proxied, variables: vars("SHELL", "/bin/sh")}, keyCase{config: proxied, variables: vars()}, false},
		{"a token of a ProxyCommand", keyCase{config: proxied, variables: vars("AWS_PROFILE", "a")}, keyCase{config: proxied, variables: vars("AWS_PROFILE", "b")}, false},
		{"a variable of an MCP host", keyCase{config: base, variables: vars("GITHUB_TOKEN", "a")}, keyCase{config: base}, true},
		{"our own settings", keyCase{config: proxied, variables: vars("SALLYPORT_PROFILE", "a", "UPSTREAM_URL", "b", "OAUTH2_SCOPE", "c")},
			keyCase{config: proxied, variables: vars()}, true},
		{"a terminal", keyCase{config: proxied, variables: vars("TERM", "xterm", "PWD", "/", "SHLVL", "2", "SSH_TTY", "/dev/pts/1")},
			keyCase{config: proxied, variables: vars()}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if same := test.one.keyOf(t) == test.other.keyOf(t); same != test.same {
				t.Errorf("the key is the same: %v, want %v", same, test.same)
			}
		})
	}
}

// A share of a chain without commands gets no secret of whoever starts it.
func TestEnvironmentOfAShare(t *testing.T) {
	variables := []string{
		"HOME=/h", "GITHUB_TOKEN=s", "SSH_AUTH_SOCK=/a", "LC_ALL=C", "MY_PIN=1", "SSH_SK_HELPER=/x", "AWS_SECRET_ACCESS_KEY=s", "OTHER=1",
	}
	out, counts := environOf([]*sshconfig.Host{{SecurityKeyProvider: "$OTHER"}}, variables)
	if got, want := strings.Join(out, " "), "HOME=/h LC_ALL=C OTHER=1 SSH_AUTH_SOCK=/a SSH_SK_HELPER=/x"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if counts("HOME") || !counts("SSH_AUTH_SOCK") || !counts("OTHER") {
		t.Error("HOME counts, or the agent does not")
	}
	if out, _ = environOf([]*sshconfig.Host{{ProxyCommand: "x"}}, variables); len(out) != len(variables) {
		t.Errorf("with a ProxyCommand: %s", out)
	}
}

// A command that may depend on the working directory is not given to a process with another one.
func TestNeedsDir(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"nc.sh", "key", "nc"} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]bool{
		"sh nc.sh %h %p":                 true,
		"./nc.sh %h %p":                  true,
		"ssh -i key -W %h:%p other":      true,
		"python3 'nc.sh' %h":             true,
		"openssl s_client -CAfile=key":   true,
		"sh -c \"exec nc.sh %h\"":        true,
		"cat <key | nc %h %p":            true,
		"nc %h %p":                       false, // the program's name is looked up in PATH
		"sh " + dir + "/nc.sh %h %p":     false,
		"ssh -W %h:%p other":             false,
		"nc -X connect -x proxy:3128 %h": false,
		"":                               false,
	} {
		if got := needsDir([]*sshconfig.Host{{}, {ProxyCommand: command}}); got != want {
			t.Errorf("%q: %t, want %t", command, got, want)
		}
	}
}
