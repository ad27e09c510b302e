package sshconfig

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Whatever is typed as a destination or as a jump host is refused or safe to hand to a shell, and
// what is accepted is read in the same way when it is written anew.
func FuzzDestination(f *testing.F) {
	for _, s := range []string{
		"web", "u@h:22", "ssh://u%40v;p=q@[fe80::1%25eth0]:22/", "[::1]:2", "fe80::1%lo", "a@b@c", "ssh://h/x", "-x", "a;b", "::1%%lo",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (target, error){parseDestination, parseHop} {
			parsed, err := parse(s)
			if err != nil || parsed.check() != nil {
				continue
			}
			if strings.ContainsAny(parsed.host+parsed.user, "`$;&|<>(){}\n\x00") || strings.HasPrefix(parsed.host, "-") ||
				strings.HasPrefix(parsed.user, "-") || parsed.port < 0 || parsed.port > 65535 {
				t.Fatalf("%q is read as %+v", s, parsed)
			}
			if strings.ContainsAny(parsed.host, "[]@/") || strings.Contains(parsed.host, ":") && !isIPv6(parsed.host) {
				continue // such a name is no host, and cannot be written with a port
			}
			again, err := parseHop(printHop(parsed))
			if err != nil || again.host != parsed.host || again.user != parsed.user || again.port != parsed.port {
				t.Fatalf("%q is read as %+v, and %q as %+v, %v", s, parsed, printHop(parsed), again, err)
			}
		}
	})
}

func isIPv6(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.Is6()
}

// A list of algorithms holds known names only, each once. Nothing can be taken away but by -.
func FuzzAlgorithms(f *testing.F) {
	for _, s := range []string{
		"+ssh-rsa,ssh-dss", "^aes256-ctr", "-*", "!x", "aes*,", ",,", "+", "*", "mlkem1024nistp384-sha384,curve25519-sha256", "-aes*,!aes128-ctr",
	} {
		for i := range len(openSSH10.known) {
			f.Add(i, s)
		}
	}
	var keywords []string
	for keyword := range openSSH10.known {
		keywords = append(keywords, keyword)
	}
	slices.Sort(keywords)
	f.Fuzz(func(t *testing.T, i int, s string) {
		keyword := keywords[max(i, -i-1)%len(keywords)]
		known, defaults := strings.Split(openSSH10.known[keyword], ","), strings.Split(openSSH10.defaults[keyword], ",")
		list, unknown, err := openSSH10.assembleAlgorithms(keyword, s)
		if err != nil {
			return
		}
		names := strings.Split(list, ",")
		for n, name := range names {
			if list != "" && (!slices.Contains(known, name) || slices.Index(names, name) != n) {
				t.Fatalf("%s %q gives %q", keyword, s, list)
			}
		}
		for _, name := range unknown {
			if slices.Contains(known, name) {
				t.Fatalf("%s %q: %q is said to be unknown", keyword, s, name)
			}
		}
		added := strings.HasPrefix(s, "+") || strings.HasPrefix(s, "^")
		for _, name := range defaults {
			if added && !slices.Contains(names, name) {
				t.Fatalf("%s %q loses %s", keyword, s, name)
			}
		}
		if list == "" && !strings.HasPrefix(s, "-") {
			t.Fatalf("%s %q leaves nothing", keyword, s)
		}
	})
}
