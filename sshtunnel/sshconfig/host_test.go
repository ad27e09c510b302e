package sshconfig

import (
	"reflect"
	"testing"
	"time"
)

func TestHostFields(t *testing.T) {
	r := configResolver(t, `
IdentityFile ~/.ssh/%h
CertificateFile none
ProxyCommand nc %h %p # %n
ServerAliveInterval 1m30s
AddKeysToAgent confirm 1h
StrictHostKeyChecking off
Ciphers aes256-ctr
IdentityAgent $SOCK
UserKnownHostsFile ~/kh "/k h/%k"
GlobalKnownHostsFile none
HostKeyAlias ALIAS
RevokedHostKeys /r1 /r2
`)
	r.Getenv = func(name string) string { return map[string]string{"SOCK": "/s"}[name] }
	h, err := r.Resolve(t.Context(), "Web")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		h.Alias, h.HostName, h.IdentityFiles, h.CertificateFiles, h.IdentityFilesSet, h.ProxyCommand, h.ServerAliveInterval, h.ServerAliveSet,
		h.AddKeysToAgent, h.StrictHostKeyChecking, h.Ciphers, h.MACs, h.IdentityAgent, h.UserKnownHostsFiles,
		h.GlobalKnownHostsFiles, h.HostKeyAlias, h.RevokedHostKeyFiles,
	}
	want := []any{
		"Web", "web", []string{r.Home + "/.ssh/web"}, []string(nil), true, "nc web 22 # Web", 90 * time.Second, true,
		"confirm 3600", "no", []string{"aes256-ctr"}, []string(nil), "/s", []string{r.Home + "/kh", "/k h/alias"},
		[]string(nil), "alias", []string{"/r1", "/r2"},
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("field %d = %#v, want %#v", i, got[i], want[i])
		}
	}
}
