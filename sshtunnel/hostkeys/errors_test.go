package hostkeys

import (
	"os"
	"testing"
)

func TestErrorNamesTheRemedy(t *testing.T) {
	known := []KnownKey{{File: "/home/me/my hosts", Line: 3, Type: "ssh-rsa", Fingerprint: "SHA256:old"}}
	printed := []KnownKey{{File: commandFile + "HOSTNAME", Line: 1, Type: "ssh-rsa", Fingerprint: "SHA256:old"}}
	base := Error{Hop: "web", Host: "[web]:2222", Type: "ssh-ed25519", Fingerprint: "SHA256:new"}
	for _, tt := range []struct {
		name         string
		edit         func(*Error)
		text, remedy string
	}{
		{"changed", func(e *Error) { e.Changed, e.Known = true, known },
			"host key of [web]:2222 has changed: got ssh-ed25519 SHA256:new, /home/me/my hosts:3 has ssh-rsa SHA256:old; " +
				"if the change is legitimate: ssh-keygen -f '/home/me/my hosts' -R '[web]:2222'",
			"ssh-keygen -f '/home/me/my hosts' -R '[web]:2222'"},
		{"changed, by a command", func(e *Error) { e.Changed, e.Known = true, printed },
			"host key of [web]:2222 has changed: got ssh-ed25519 SHA256:new, KnownHostsCommand-HOSTNAME:1 has ssh-rsa SHA256:old", ""},
		{"revoked", func(e *Error) { e.Revoked, e.Known = true, []KnownKey{{File: "/krl"}} },
			"host key of [web]:2222 is revoked by /krl: ssh-ed25519 SHA256:new", ""},
		{"revoked or not", func(e *Error) { e.Revoked, e.Err = true, os.ErrPermission },
			"host key of [web]:2222 is refused, because nobody can tell whether it is revoked: ssh-ed25519 SHA256:new: permission denied", ""},
		{"unknown, nobody there", func(e *Error) { e.Unknown, e.NeedsPerson, e.CertErr = true, true, "expired" },
			"host key of [web]:2222 is not known: ssh-ed25519 SHA256:new; accept it in a terminal: ssh web (its certificate: expired)", "ssh web"},
	} {
		e := base
		tt.edit(&e)
		if e.Error() != tt.text {
			t.Errorf("%s: got  %s\nwant %s", tt.name, &e, tt.text)
		}
		if e.Remedy() != tt.remedy {
			t.Errorf("%s: remedy %q, want %q", tt.name, e.Remedy(), tt.remedy)
		}
	}
}
