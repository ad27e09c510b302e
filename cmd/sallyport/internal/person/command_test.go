package person

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// The command that the person is told names the way by which the SSH session came, unless the name
// of this machine is as good.
func TestCallbackCommandOfTheSession(t *testing.T) {
	known := map[string][]string{"workbench": {"192.0.2.2", "2001:db8::2"}}
	lookup := func(_ context.Context, name string) ([]string, error) {
		if found, ok := known[name]; ok {
			return found, nil
		}
		return nil, errors.New("no such host")
	}
	for _, tt := range []struct{ name, connection, want, assumed string }{
		{"no session", "", "person@workbench", ""},
		{"the name leads here", "192.0.2.1 1 192.0.2.2 22", "person@workbench", ""},
		{"the name leads here by IPv6", "2001:db8::1 1 2001:db8::2 22", "person@workbench", ""},
		{"another port", "192.0.2.1 1 192.0.2.2 2201", "person@workbench:2201", ""},
		{"the name leads elsewhere", "10.0.0.2 1 10.0.0.4 22", "person@10.0.0.4", "came in at 10.0.0.4:22"},
		{"elsewhere, another port", "10.0.0.2 1 10.0.0.4 2201", "person@10.0.0.4:2201", "came in at 10.0.0.4:2201"},
		{"IPv6", "2001:db8::1 1 2001:db8::9 22", "person@[2001:db8::9]:22", "came in at [2001:db8::9]:22"},
		{"IPv4 in IPv6", "::ffff:10.0.0.2 1 ::ffff:10.0.0.4 22", "person@10.0.0.4", "came in at 10.0.0.4"},
		{"through a forwarded port", "127.0.0.1 1 127.0.0.1 2222", "person@workbench", ""},
		{"an address of this link", "fe80::1%eth0 1 fe80::2%eth0 22", "person@workbench", ""},
		{"not of sshd", "1", "person@workbench", ""},
		{"a port that is none", "10.0.0.2 1 10.0.0.4 $(x)", "person@workbench", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			env := environment.Fixed(map[string]string{"SSH_CONNECTION": tt.connection}, "/home/me")
			command, assumed := callbackCommand(env, lookup)
			if command != "sallyport callback "+tt.want {
				t.Errorf("the command is %q", command)
			}
			if !strings.Contains(assumed, tt.assumed) || !strings.HasSuffix(assumed, tt.want+" stands for what you type after ssh to come here") {
				t.Errorf("assumed is %q", assumed)
			}
		})
	}
}

// A callback of a container names the port that is to be published.
func TestPublishHint(t *testing.T) {
	for uri, want := range map[string]string{
		"http://127.0.0.1:53690/callback": "-p 127.0.0.1:53690:53690", "http://localhost:1/": "-p 127.0.0.1:1:1", "": "-p 127.0.0.1:53682:53682",
	} {
		if got := publishHint(uri); !strings.HasSuffix(got, want) {
			t.Errorf("%q: %q", uri, got)
		}
	}
}
