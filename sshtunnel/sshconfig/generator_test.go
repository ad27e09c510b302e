//go:build linux

package sshconfig

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// generator draws configurations that stay within what all releases of OpenSSH from 9.2 on read
// alike, and with modern also what came with 10.
type generator struct {
	*rand.Rand
	modern bool
	final  bool // a Match final is in the user's file: then 9.2 reads !final like 10
}

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

// keywordDraws draws an argument for each keyword; one in about forty is bad on purpose.
var keywordDraws = map[string]func(g *generator) string{
	"User": func(g *generator) string {
		if g.modern && g.chance(20) {
			return g.pick("%u-adm", "${WHO}", "x%h", "%r", "${NONE}")
		}
		return g.pick("alice", "bob", `"carol d"`, "al#ice")
	},
	"HostName": func(g *generator) string {
		return g.pick("%h.corp", "web.corp", "10.1.2.3", "2001:DB8::1", "%%x", "%x", "127.1")
	},
	"Port": func(g *generator) string { return g.pick("22", "2022", "https", "0", "70000", "+80", "") },
	"IdentityFile": func(g *generator) string {
		return g.pick("~/.ssh/a", "~/.ssh/b", "/k/%h-%r", `"/k/my key"`, `/k/my\ key`, "none", "${MYD}/k")
	},
	"CertificateFile": func(g *generator) string { return g.pick("~/.ssh/a-cert.pub", "/k/c", "none") },
	"IdentitiesOnly":  flagValue,
	"IdentityAgent": func(g *generator) string {
		return g.pick("none", "SSH_AUTH_SOCK", "$FOO", "${MYD}/s", "~/s", "$1-x", "${")
	},
	"AddKeysToAgent": func(g *generator) string {
		return g.pick("yes", "no", "ask", "confirm", "confirm 1h", "5m", "ask 5m", "0")
	},
	"UserKnownHostsFile": func(g *generator) string {
		return g.pick("~/.ssh/known_hosts", "~/k1 /k2", "none", "none /x", "/k/%k", "${MYD}/kh")
	},
	"GlobalKnownHostsFile":  func(g *generator) string { return g.pick("/g1", "/g1 /g2", "none") },
	"StrictHostKeyChecking": func(g *generator) string { return g.pick("yes", "no", "ask", "off", "accept-new", "TRUE", "maybe") },
	"HashKnownHosts":        flagValue,
	"UpdateHostKeys":        func(g *generator) string { return g.pick("yes", "no", "ask") },
	"VerifyHostKeyDNS":      func(g *generator) string { return g.pick("yes", "no", "ask") },
	"CheckHostIP":           flagValue,
	"HostKeyAlias":          func(g *generator) string { return g.pick("Alias", "other") },
	"HostKeyAlgorithms": func(g *generator) string {
		return g.pick("+ssh-rsa", "-ecdsa*", "^ssh-ed25519", "ssh-ed25519,rsa-*", "bogus", "-*cert*", "+nope", "-*")
	},
	"PubkeyAcceptedAlgorithms": func(g *generator) string {
		return g.pick("+ssh-rsa", "-rsa*", "^rsa-sha2-256", "*ed25519*", "+nope", "-*")
	},
	"CASignatureAlgorithms": func(g *generator) string { return g.pick("ssh-ed25519", "-rsa*", "^rsa-sha2-256") },
	"Ciphers": func(g *generator) string {
		return g.pick("^aes256-ctr", "+aes128-cbc", "-chacha*", "aes128-ctr,aes256-ctr", "aes*")
	},
	"KexAlgorithms": func(g *generator) string {
		return g.pick("-diffie-hellman*", "^ecdh-sha2-nistp256", "curve25519-sha256", "+nope")
	},
	"MACs":                             func(g *generator) string { return g.pick("-umac*", "hmac-sha2-256", "+hmac-md5", "-*") },
	"PreferredAuthentications":         func(g *generator) string { return g.pick("publickey", "publickey,password") },
	"PubkeyAuthentication":             func(g *generator) string { return g.pick("yes", "no", "unbound", "host-bound") },
	"PasswordAuthentication":           flagValue,
	"KbdInteractiveAuthentication":     flagValue,
	"ChallengeResponseAuthentication":  flagValue,
	"NumberOfPasswordPrompts":          numberValue,
	"BatchMode":                        flagValue,
	"NoHostAuthenticationForLocalhost": flagValue,
	"AddressFamily":                    func(g *generator) string { return g.pick("any", "inet", "inet6") },
	"BindAddress":                      func(g *generator) string { return g.pick("127.0.0.1", "::1") },
	"ConnectTimeout":                   timeValue,
	"ConnectionAttempts":               numberValue,
	"ServerAliveInterval":              timeValue,
	"ServerAliveCountMax":              numberValue,
	"TCPKeepAlive":                     flagValue,
	"ProxyCommand":                     func(g *generator) string { return g.pick("nc %h %p # x", "none", `sh -c "a b"`, "= nc") },
	"ProxyJump": func(g *generator) string {
		return g.pick("bastion", "none", "a,b", "bob@b:2022", "ssh://carol@h:99", "[::1]:22", "b:x", "b,,c", "bastion # c", "web", "1.2.3.4,5.6.7.8:7")
	},
	"ControlPath":    func(g *generator) string { return g.pick("none", "~/.ssh/cm-%r@%h:%p", "/c/%n-%L") },
	"ControlMaster":  func(g *generator) string { return g.pick("auto", "yes", "no", "autoask") },
	"ControlPersist": func(g *generator) string { return g.pick("yes", "no", "10m", "0", "x") },
	"LocalForward": func(g *generator) string {
		return g.pick("8080 localhost:80", "[::1]:81 [2001:db8::2]:80", "/l.s /r.s", "82 /r-%h", "0 a:1", "83", ":84 b:1")
	},
	"RemoteForward": func(g *generator) string {
		return g.pick("9090 localhost:90", "1080", "0 a:1", "/r.s /l.s", "*:91 c:1", "x y")
	},
	"DynamicForward":       func(g *generator) string { return g.pick("1081", "localhost:1082", "[::]:1083", "0") },
	"SendEnv":              func(g *generator) string { return g.pick("LANG LC_*", "A B", "-L*", "X=1") },
	"SetEnv":               func(g *generator) string { return g.pick("A=1", `A=1 B="two words"`, "A=1 A=2", "A") },
	"RekeyLimit":           func(g *generator) string { return g.pick("1G", "default none", "1M 1h", "512K 30m", "1") },
	"Compression":          func(g *generator) string { return g.pick("yes", "no") },
	"LogLevel":             func(g *generator) string { return g.pick("error", "verbose", "DEBUG", "DEBUG3") },
	"EscapeChar":           func(g *generator) string { return g.pick("none", "^B", "!", "ab") },
	"CanonicalizeMaxDots":  numberValue,
	"CanonicalDomains":     func(g *generator) string { return g.pick("Example.com corp.", "none", "a..b") },
	"RequestTTY":           func(g *generator) string { return g.pick("yes", "no", "force", "auto") },
	"SessionType":          func(g *generator) string { return g.pick("none", "default") },
	"KnownHostsCommand":    func(g *generator) string { return g.pick("/bin/k %H", "none") },
	"RevokedHostKeys":      func(g *generator) string { return g.pick("/r1", "none") },
	"StreamLocalBindMask":  func(g *generator) string { return g.pick("0177", "0", "9") },
	"PermitRemoteOpen":     func(g *generator) string { return g.pick("any", "none", "a:1 b:*", "c") },
	"TunnelDevice":         func(g *generator) string { return g.pick("1", "1:any", "any:2") },
	"GSSAPIAuthentication": flagValue,
	"Protocol":             func(g *generator) string { return "2" },
}

// modernDraws are of keywords that came after 9.2.
var modernDraws = map[string]func(g *generator) string{
	"Tag":                    func(g *generator) string { return g.pick("prod", "test") },
	"ChannelTimeout":         func(g *generator) string { return g.pick("none", "session=5m", "*=1h direct-tcpip=0", "x") },
	"ObscureKeystrokeTiming": func(g *generator) string { return g.pick("yes", "no", "interval:30", "interval:0") },
	"VersionAddendum":        func(g *generator) string { return g.pick("none", "x y # c") },
	"RequiredRSASize":        numberValue,
	"ProxyUseFdpass":         flagValue,
	"Tunnel":                 func(g *generator) string { return g.pick("yes", "ethernet", "maybe") },
	"IgnoreUnknown":          func(g *generator) string { return "Use*,x" },
	"UseKeychain":            flagValue,
	"WarnWeakCrypto":         func(g *generator) string { return g.pick("yes", "no-pq-kex") },
	"RefuseConnection":       func(g *generator) string { return g.pick("no") },
	"RevokedHostKeys":        func(g *generator) string { return g.pick("/r1 ~/r2", "/r/%h") },
	"SetEnv":                 func(g *generator) string { return g.pick("A=%h B=${WHO}") },
}

func flagValue(g *generator) string   { return g.pick("yes", "no", "true", "False", "YES") }
func numberValue(g *generator) string { return g.pick("0", "1", "2", "5", "007", "3", "4") }
func timeValue(g *generator) string {
	return g.pick("10", "1m", "1h30m", "2d", "1W", "90s", "none", "0", "5x", "10S")
}

// keyword draws a line.
func (g *generator) keyword() string {
	table := keywordDraws
	if g.modern && g.chance(12) {
		table = modernDraws
	}
	names := slices.Sorted(maps.Keys(table))
	name := g.pick(names...)
	value := table[name](g)
	if g.chance(95) { // mostly keep clear of what refuses the file
		for tries := 0; tries < 20 && slices.Contains(refused, value); tries++ {
			value = table[name](g)
		}
	}
	switch g.IntN(12) {
	case 0:
		name = strings.ToUpper(name)
	case 1:
		name = `"` + name + `"`
	}
	separator := g.pick(" ", " ", "\t", "=", " = ", "  ")
	end := g.pick("", "", "", "", " ", "\t", "\r", " # note")
	if value == "none" { // `ProxyJump none # note` names a host to ssh, which then fails; to us it is none
		end = strings.TrimSuffix(end, " # note")
	}
	if strings.HasPrefix(strings.Trim(strings.ToLower(name), `"`), "proxyc") || strings.HasPrefix(value, "=") || name[0] == '"' {
		separator = " "
	}
	return g.pick("", "  ", "\t") + name + separator + value + end
}

// refused are values that some keyword above does not take.
var refused = []string{
	"", "0", "70000", "%x", "maybe", "none /x", "$1-x", "${", "ask 5m", "bogus", "aes*", "+nope", "b:x", "b,,c", "x", "0 a:1", "83", "x y",
	"X=1", "A", "1", "ab", "a..b", "9", "c", "5x", "interval:0", "${NONE}", "no", "%r",
}

// block draws the line that begins a block.
func (g *generator) block() string {
	patterns := []string{"web", "db1", "*.example.com", "*", "w?b", "!db1 *", "web db1", "10.*", `"web"`, "*.corp", "WEB"}
	if g.chance(50) {
		return "Host " + g.pick(patterns...)
	}
	criteria := []string{
		"host web", "host *.corp,w*", "!host db1", "originalhost web,db*", "user alice", "!user alice", "localuser root", "user bob,carol*",
		`exec "true"`, `exec "false"`, `exec "test %h = web"`, `exec "test %n-%p = db1-22"`, "host=web", "canonical", "!canonical",
	}
	if g.final {
		criteria = append(criteria, "final", "!final")
	}
	if g.modern {
		criteria = append(criteria, "tagged prod", `tagged ""`, "!tagged t*", "sessiontype shell", "sessiontype none,subsystem", "version OpenSSH_1*",
			"localnetwork 127.0.0.0/8", "localnetwork 203.0.113.0/24", `command ""`, `exec 'test "%h" = web'`, "user=alice", "localnetwork 127.0.0.1/8")
	}
	if g.chance(10) {
		return "Match all"
	}
	if g.chance(2) {
		return "Match " + g.pick("bogus x", "host", "host web all", "exec", "all host web")
	}
	line := "Match"
	for range 1 + g.IntN(3) {
		line += g.pick(" ", "  ", "\t") + g.pick(criteria...)
	}
	return line
}

// file draws a whole file. depth is how many levels of Include may follow.
func (g *generator) file(name string, depth int, files map[string]string) {
	var text strings.Builder
	for range g.IntN(4) {
		fmt.Fprintln(&text, g.keyword())
	}
	for range g.IntN(5) {
		fmt.Fprintln(&text, g.block())
		for range g.IntN(5) {
			fmt.Fprintln(&text, g.keyword())
			if g.chance(5) {
				fmt.Fprintln(&text, g.pick("", "# note", "   ", "\t# x \"", "#Host web"))
			}
		}
		if depth > 0 && g.chance(35) {
			dir := "home/.ssh/"
			if strings.HasPrefix(name, "etc/") {
				dir = "etc/"
			}
			id := strconv.Itoa(len(files))
			fmt.Fprintln(&text, g.pick("Include inc"+id, "Include  nothing inc"+id+"* # x", `Include "inc`+id+`"`, "Include in[cx]"+id, "Include in[!a-b]"+id))
			files[dir+"inc"+id] = ""
			g.file(dir+"inc"+id, depth-1, files)
		}
	}
	files[name] = text.String()
}

// TestRandomAgainstSSH compares our reading of random configurations with that of the real ssh.
// SALLYPORT_DRAWS sets their number, SALLYPORT_SEED repeats a run.
func TestRandomConfigurationsAgainstSSH(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	seed := rand.Uint64()
	if s := os.Getenv("SALLYPORT_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SALLYPORT_SEED=%d", seed)
	o := newOracle(t)
	s := newSandbox(t)
	env := []string{"MYD=/root/.ssh", "FOO=/run/foo", "WHO=me"}
	accepted, skipped, refusals, failures := 0, 0, 0, 0
	for i := range draws(t) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, uint64(i))), modern: o.modern()}
		g.final = g.chance(30)
		files := make(map[string]string)
		g.file("home/.ssh/config", 2, files)
		if g.final {
			files["home/.ssh/config"] = "Match final\n" + g.keyword() + "\nMatch all\n" + files["home/.ssh/config"]
		}
		if g.chance(50) {
			g.file("etc/ssh_config", 1, files)
		}
		destination := g.pick("web", "web", "db1", "a.example.com", "WEB", "10.0.0.1", "alice@web", "127.1", "::1")
		args := []string{destination}
		r := s.resolver(t, &o.release, env)
		if g.chance(15) {
			option := strings.TrimSpace(g.keyword())
			if strings.Contains(option, "+nope") { // skipped by us, and refused by ssh
				continue
			}
			args = []string{"-o", option, destination}
			r.Options = []string{option}
		}
		s.fill(t, files)
		got, gotErr := printed(t, r, destination)
		want, wantErr := o.run(args, env)
		if gotErr == nil && wantErr != nil {
			want, wantErr = o.runWithout(t, s, args, env)
			skipped++
		}
		var diffs []string
		switch {
		case (gotErr != nil) != (wantErr != nil):
			diffs = []string{fmt.Sprintf("we say %v, ssh says %v", gotErr, wantErr)}
		case wantErr != nil:
			refusals++
		default:
			diffs = o.differences(want, got)
			accepted++
		}
		if len(diffs) == 0 {
			continue
		}
		t.Errorf("draw %d: ssh -G %q:\n%s", i, args, strings.Join(diffs, "\n"))
		for _, name := range slices.Sorted(maps.Keys(files)) {
			t.Logf("-- %s --\n%s", name, files[name])
		}
		if failures++; failures == 5 {
			t.Fatal("enough")
		}
	}
	t.Logf("%d draws are read alike (%d without lines that only ssh refuses), %d are refused alike", accepted, skipped, refusals)
}

// draws is how many random configurations the ordinary test run compares.
func draws(t *testing.T) int {
	n := 100
	if s := os.Getenv("SALLYPORT_DRAWS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}
