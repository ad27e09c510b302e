package explain

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
)

// given holds the settings that the person has made. Hints ask it, because it does not help to name
// a setting that is made already.
type given struct {
	cli.Remote
	// agentWay is Explainer.AgentWay.
	agentWay func() string
}

// forgottenAgent says how the agent gets into this process, as a hint. It is empty if that is not
// what is missing.
func (g given) forgottenAgent() string {
	if g.agentWay == nil {
		return ""
	}
	way := g.agentWay()
	if way == "" {
		return ""
	}
	return "SSH_AUTH_SOCK is not set in this process, and no agent of yours was found; " + way
}

// about words an error of a connection, and names the upstream if the error names no server.
func (g given) about(err error) string {
	text := withoutQuery(err)
	_, inHTTP := errors.AsType[*url.Error](err)
	upstream, parseErr := url.Parse(cmp.Or(g.URL, g.UpstreamURL))
	if inHTTP || isSignInError(err) || parseErr != nil || upstream.Host == "" || strings.Contains(text, upstream.Host) {
		return text
	}
	return session.PlainURL(upstream) + ": " + text
}

// textOf words an error of TLS, which does not name the server, as about does.
func (g given) textOf(kind string, err error) string {
	if kind == KindTLS {
		return g.about(err)
	}
	return withoutQuery(err)
}

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

// promptNone reports whether the settings forbid the login page to ask.
func (g given) promptNone() bool {
	return g.ExtraParams["prompt"] == "none" || slices.Contains(g.AuthorizeParam, "prompt=none")
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
