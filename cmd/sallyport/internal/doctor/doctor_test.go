package doctor

import (
	"bytes"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// The package comment, the constants and the reasons name the same rows.
func TestRowsAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^//\t([a-zN.]+)  +\S`).FindAllStringSubmatch(string(text), -1) {
		documented[strings.Replace(m[1], "hop.N.", "hop.", 1)] = true
	}
	got, want := slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(reasons))
	if !slices.Equal(got, want) {
		t.Errorf("documented %q, and there are %q", got, want)
	}
	for _, id := range []string{"hop.12.kex", "callback.hop.3.login", idPort} {
		if whyOf(id) == "" {
			t.Errorf("%s has no reason", id)
		}
	}
}

func TestIsNameRefusal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		reason ssh.RejectionReason
		said   string
		want   bool
	}{
		{ssh.ConnectionFailed, "Name or service not known", true},
		{ssh.ConnectionFailed, "Temporary failure in name resolution", true},
		{ssh.ConnectionFailed, "nodename nor servname provided, or not known", true},
		{ssh.ConnectionFailed, "Name does not resolve", true},
		{ssh.ConnectionFailed, "dial tcp: lookup a.invalid: no such host", true},
		{ssh.ConnectionFailed, "Connection refused", false},
		{ssh.ConnectionFailed, "", false},
		{ssh.Prohibited, "Name or service not known", false},
	} {
		if got := isNameRefusal(&sshtunnel.OpenError{Reason: test.reason, Msg: test.said}); got != test.want {
			t.Errorf("%v %q: %v", test.reason, test.said, got)
		}
	}
}

// The dial of a doctor changes nothing and asks nobody.
func TestQuiet(t *testing.T) {
	t.Parallel()
	w := newWalk(Config{Command: &cli.DoctorCommand{}})
	q := w.quiet(&chain{}, &sshconfig.Host{PasswordAuthentication: true, KbdInteractiveAuthentication: true, UpdateHostKeys: "yes", AddKeysToAgent: "yes",
		StrictHostKeyChecking: "ask", UserKnownHostsFiles: []string{"/known"}})
	if q.PasswordAuthentication || q.KbdInteractiveAuthentication || q.UpdateHostKeys != "no" || q.AddKeysToAgent != "no" || q.ConnectTimeout == 0 {
		t.Errorf("%+v", q)
	}
	if len(q.PubkeyAcceptedAlgorithms) == 0 || slices.ContainsFunc(q.PubkeyAcceptedAlgorithms, func(name string) bool { return strings.Contains(name, "sk-") }) {
		t.Errorf("algorithms %q", q.PubkeyAcceptedAlgorithms)
	}
	if q.UserKnownHostsFiles[0] != "/known" {
		t.Errorf("known_hosts %q", q.UserKnownHostsFiles)
	}
}

// A report for strangers replaces names, each always by the same word.
func TestNames(t *testing.T) {
	t.Parallel()
	env := environment.Fixed(map[string]string{"USER": "adalove"}, "/home/adalove")
	env.User, env.Hostname = "adalove", "ada-laptop"
	command := &cli.DoctorCommand{}
	command.URL, command.Via, command.Jump, command.ClientID = "https://mcp.corp.example/mcp?key=secret", "ada@bastion", "ssh://jo@first:22", "client-77"
	n := NamesOf(command, env)
	n.add(kindHost, "10.1.2.3")
	for _, test := range []struct{ text, want string }{
		{"hop bastion (10.1.2.3:22): no", "hop host-2 (host-1:22): no"},
		{"https://mcp.corp.example/mcp?key=secret", "https://host-3/mcp?(query)"},
		{"/home/adalove/.ssh/config:3", "~/.ssh/config:3"},
		{"bastion again, as ada, by ada@bastion", "host-2 again, as user-1, by user-1@host-2"},
		{"signed in as jo@mail.example", "signed in as name-1"},
		{"/home/other/.ssh", "/home/user-2/.ssh"},
		{"other.corp.example and fe80::1%eth0, 2001:db8::7", "host-4 and host-5, host-6"},
		{"127.0.0.1:53682 and localhost and ::1", "127.0.0.1:53682 and localhost and ::1"},
		{"curve25519-sha256@libssh.org, chacha20-poly1305@openssh.com", "curve25519-sha256@libssh.org, chacha20-poly1305@openssh.com"},
		{"ssh-ed25519 SHA256:abc/adad+x, adalovely, settings.json: line 3", "ssh-ed25519 SHA256:abc/adad+x, adalovely, settings.json: line 3"},
		{"root@127.0.0.1 port 22", "root@127.0.0.1 port 22"},
		{"key SHA256:lEY3HlLmdSoA6XaondmV+iUWVcy80OQwNgO76vgLak8 (file)", "key key-1 (file)"},
		{`certificate of "CN=x.corp.example,O=Big Corp" by "CN=Root,O=Big Corp"`, `certificate of "CN=name-2,O=name-3" by "CN=name-4,O=name-3"`},
		{"https://mcp.corp.example/tenant/0123456789abcdef0123/mcp", "https://host-3/tenant/(segment)/mcp"},
		{"client-77 on ada-laptop", "name-5 on host-7"},
	} {
		if got := n.Mask(test.text); got != test.want {
			t.Errorf("%q became %q, want %q", test.text, got, test.want)
		}
	}
}

// Rows that were skipped for one reason share a line, and stand before what follows them.
func TestPrinter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := NewPrinter(&out, Look{})
	r := &Report{Checks: []Check{
		{ID: "a", Result: OK, Summary: "good"},
		{ID: "b", Result: Skipped, Summary: "why"}, {ID: "c", Result: Skipped, Summary: "why"},
		{ID: "d", Result: Skipped, Summary: "why", Next: []string{"do"}},
		{ID: "e", Result: Fail, Summary: "bad \x1b[31m", Why: "reason", Evidence: []string{"seen it"}, Next: []string{"do it"}},
		{ID: "f", Result: Skipped, Summary: "last"},
	}}
	for _, c := range r.Checks {
		p.Begin(c.ID)
		p.Done(c)
	}
	p.Summary(r)
	p.Close()
	const want = `ok      a                    good
skipped b, c                 why
skipped d                    why
        next     do
fail    e                    bad  [31m
        why      reason
        seen     seen it
        next     do it
skipped f                    last
1 failed, 0 warned, 1 good, 4 not looked at
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	env := environment.Fixed(map[string]string{"HOME": "/h", "PATH": "/opt/bin:/bin", "SSH_AUTH_SOCK": "/a", "UPSTREAM_URL": "u", "OTHER": "1", "OAUTH2_CLIENT_SECRET": "hush"}, "/h")
	for _, test := range []struct {
		host             string
		dropped          []string
		agent, secret, p bool
		home             bool
	}{
		{"claude-code", nil, true, true, false, false},
		{"gemini", []string{"OAUTH2_CLIENT_SECRET", "SSH_AUTH_SOCK"}, false, false, false, false},
		{"gemini-cli", []string{"OAUTH2_CLIENT_SECRET", "SSH_AUTH_SOCK"}, false, false, false, false},
		{"codex", []string{"OAUTH2_CLIENT_SECRET", "SSH_AUTH_SOCK", "UPSTREAM_URL"}, false, false, false, false},
		{"claude-desktop", []string{"OAUTH2_CLIENT_SECRET", "SSH_AUTH_SOCK", "UPSTREAM_URL"}, false, false, true, true},
	} {
		environ, folder, ok := Environ(env, test.host, nil, cli.IsOwnVariable)
		if !ok {
			t.Fatalf("%s is not known", test.host)
		}
		variables := map[string]string{}
		for _, entry := range environ {
			name, value, _ := strings.Cut(entry, "=")
			variables[name] = value
		}
		c := ClientOf(environment.Fixed(variables, "/h"))
		if c == nil {
			t.Fatalf("%s: %q", test.host, environ)
		}
		slices.Sort(c.Dropped)
		dropped := slices.Compact(c.Dropped)
		if !slices.Equal(dropped, test.dropped) || (variables["SSH_AUTH_SOCK"] != "") != test.agent || (variables["OAUTH2_CLIENT_SECRET"] != "") != test.secret {
			t.Errorf("%s: dropped %q, variables %q", test.host, dropped, variables)
		}
		if c.PathChanged != test.p || (folder == "/h") != test.home || (variables["PATH"] != "/opt/bin:/bin") != test.p {
			t.Errorf("%s: %+v, folder %s, PATH %s", test.host, c, folder, variables["PATH"])
		}
	}
	if _, _, ok := Environ(env, "nobody", nil, cli.IsOwnVariable); ok {
		t.Error("an unknown host has an environment")
	}
}
