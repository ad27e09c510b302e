package asclient

import (
	"testing"
)

func TestAuthMethod(t *testing.T) {
	secret, key := Credentials{ID: "c", Secret: "s"}, new(Key)
	for _, tt := range []struct {
		name   string
		method string // Client.SecretMethod
		server Server
		who    Credentials
		want   string
	}{
		{"no secret", AuthBasic, Server{}, Credentials{ID: "c"}, AuthNone},
		{"style header", AuthBasic, Server{AuthMethods: []string{AuthPost}}, secret, AuthBasic},
		{"style body", AuthPost, Server{AuthMethods: []string{AuthBasic}}, secret, AuthPost},
		{"as registered", "", Server{AuthMethods: []string{AuthBasic, AuthPost}}, Credentials{Secret: "s", Method: AuthPost}, AuthPost},
		{"given endpoints", "", Server{Source: FromConfig}, secret, AuthPost},
		{"nothing advertised", "", Server{}, secret, AuthBasic},
		{"both advertised", "", Server{AuthMethods: []string{AuthPost, AuthBasic}}, secret, AuthBasic},
		{"only none advertised", "", Server{AuthMethods: []string{AuthNone}}, secret, AuthNone},
		{"key, nothing advertised", "", Server{}, Credentials{ID: "c", Key: key}, AuthPrivateKey},
		{"key before a secret", "", Server{AuthMethods: []string{AuthPost, AuthPrivateKey}}, Credentials{ID: "c", Secret: "s", Key: key}, AuthPrivateKey},
		{"secret where the key is not taken", "", Server{AuthMethods: []string{AuthPost}}, Credentials{ID: "c", Secret: "s", Key: key}, AuthPost},
		{"post advertised", "", Server{AuthMethods: []string{AuthNone, AuthPost}}, secret, AuthPost},
	} {
		if got := tt.who.method(tt.server, &Client{SecretMethod: tt.method}); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
