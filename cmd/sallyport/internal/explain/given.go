package explain

import (
	"cmp"
	"fmt"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
)

// given holds the settings that the person has made. Hints ask it, because a hint that names a
// setting which is made already does not help.
type given struct{ cli.Remote }

// issuer is the value of --issuer.
func (g given) issuer() string { return "" }

// clientCert reports whether --client-cert is given.
func (g given) clientCert() bool { return false }

// authorization reports whether the settings hold an Authorization header of the person's own.
func (g given) authorization() bool {
	for _, h := range g.Header {
		if name, _, _ := strings.Cut(h, ":"); strings.EqualFold(strings.TrimSpace(name), "Authorization") {
			return true
		}
	}
	return false
}

// secretSettings names the settings that authenticate the configured client. It is empty if the
// client has only its ID.
func (g given) secretSettings() string {
	switch {
	case g.ClientKey != "":
		return "--client-key"
	case g.ClientSecretFile != "" && g.ClientSecret == "":
		return "--client-secret-file"
	case g.ClientSecret != "":
		return "the client's secret (OAUTH2_CLIENT_SECRET)"
	}
	return ""
}

// redirect is the redirect URI that a pre-registered client must have.
func (g given) redirect() string {
	port := "PORT"
	if len(g.CallbackPort) > 0 && g.CallbackPort[0] != 0 {
		port = fmt.Sprint(g.CallbackPort[0])
	}
	return cmp.Or(g.RedirectURI, fmt.Sprintf("http://%s:%s/callback", cmp.Or(g.CallbackHost, "127.0.0.1"), port))
}

// unless returns hint, or nothing if the setting that it names is made already.
func unless(made bool, hint string) string {
	if made {
		return ""
	}
	return hint
}

// hints collects what is not empty.
func hints(list ...string) []string {
	var out []string
	for _, h := range list {
		if h != "" {
			out = append(out, h)
		}
	}
	return out
}
