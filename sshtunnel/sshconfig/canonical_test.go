package sshconfig

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestCanonicalizeHostname(t *testing.T) {
	r := configResolver(t, `
CanonicalizeHostname yes
CanonicalDomains no.example corp.example
CanonicalizePermittedCNAMEs *.corp.example:*.cdn.example
Host web.corp.example
  User found
Host *.cdn.example
  Port 2022
`)
	r.system.lookup = func(_ context.Context, name string) (string, error) {
		switch name {
		case "web.corp.example.":
			return "web.corp.example", nil
		case "img.corp.example.":
			return "e1.cdn.example", nil
		}
		if strings.HasSuffix(name, ".") {
			return "", errors.New("no such host")
		}
		return name, nil // the rules for CNAMEs are asked about the bare name, too
	}
	for name, want := range map[string]string{
		"web": "found@web.corp.example:22", "img": "me@e1.cdn.example:2022", "other": "me@other:22", "a.b.c": "me@a.b.c:22",
	} {
		h, err := r.Resolve(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := (target{host: h.HostName, user: h.User, port: h.Port}).String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	r.Options = []string{"CanonicalizeFallbackLocal=no"}
	if _, err := r.Resolve(t.Context(), "other"); err == nil {
		t.Error("a name in no domain is not refused without CanonicalizeFallbackLocal")
	}
}
