package farbrowser

import (
	"encoding/base64"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestPACDecisions runs the PAC files, as browsers do.
func TestPACDecisions(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no JavaScript here: ", err)
	}
	const ours, direct = "PROXY 127.0.0.1:8123", "DIRECT"
	_, encoded, _ := strings.Cut(pacForProfile("127.0.0.1:8123", []string{"login.internal", "192.0.2.7"}), ",")
	profile, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	person := pacForPerson("127.0.0.1:8123", []string{"login.internal"}, time.Now().Add(time.Hour))
	over := pacForPerson("127.0.0.1:8123", []string{"login.internal"}, time.Now().Add(-time.Hour))
	tests := []struct{ pac, url, host, want string }{
		{string(profile), "https://login.internal/", "login.internal", ours},
		{string(profile), "http://login.internal/a", "LOGIN.internal.", ours},
		{string(profile), "https://idp.internal/", "idp.internal", ours},
		{string(profile), "wss://idp.internal/", "idp.internal", ours},
		{string(profile), "http://idp.internal/", "idp.internal", direct},
		{string(profile), "ws://idp.internal/", "idp.internal", direct},
		{string(profile), "ftp://idp.internal/", "idp.internal", direct},
		{string(profile), "http://127.0.0.1:53682/callback", "127.0.0.1", direct},
		{string(profile), "https://127.0.0.1/", "127.0.0.1", direct},
		{string(profile), "https://127.1/", "127.1", direct},
		{string(profile), "https://0x7f000001/", "0x7f000001", direct},
		{string(profile), "https://[::1]/", "::1", direct},
		{string(profile), "https://localhost/", "localhost", direct},
		{string(profile), "https://a.localhost./", "a.localhost.", direct},
		{string(profile), "https://10.1.2.3/", "10.1.2.3", direct},
		{string(profile), "https://192.0.2.7/", "192.0.2.7", ours},
		{string(profile), "https://notlocalhost.internal/", "notlocalhost.internal", ours},
		{string(profile), "https://update.googleapis.com/", "update.googleapis.com", direct},
		{string(profile), "https://firefox.settings.services.mozilla.com/", "firefox.settings.services.mozilla.com", direct},
		{string(profile), "https://accounts.google.com/", "accounts.google.com", ours},
		{string(profile), "https://www.googleapis.com/", "www.googleapis.com", ours},
		{string(profile), "https://login.microsoftonline.com/", "login.microsoftonline.com", ours},
		{person, "https://login.internal/", "login.internal", ours},
		{person, "https://bank.example/", "bank.example", direct},
		{over, "https://login.internal/", "login.internal", direct},
	}
	for _, test := range tests {
		arguments, err := json.Marshal([]string{test.url, test.host})
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), node, "-p", test.pac+"FindProxyForURL(..."+string(arguments)+")").CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
			t.Errorf("%s: got %q, %v; want %q", test.url, got, err, test.want)
		}
	}
}
