package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/oauth"
	"sallyport/oauth/asclient"
)

// signInRows makes the rows of the metadata.
type signInRows struct{ *walk }

// discoverLimit bounds the search for metadata, which asks at several places.
const discoverLimit = 30 * time.Second

// metadataRows are the rows of the metadata, in their order.
var metadataRows = []string{idChallenge, idResource, idServer, idIssuer, idPKCE, idWays}

// signInFacts is what the other rows need to know of the sign-in.
type signInFacts struct {
	// open says that the upstream takes requests without a token.
	open bool
	// byBrowser says that a login would come back to the callback's port.
	byBrowser bool
}

// tell looks at the challenge and the metadata, and begins no sign-in.
func (w signInRows) tell(ctx context.Context) {
	switch {
	case w.s == nil:
		w.skipAll(w.why, metadataRows...)
	case w.s.Parts.Grant() == oauth.GrantNone:
		w.found.open = true
		w.skipAll("the settings forbid a sign-in, or hold credentials of their own", metadataRows...)
	case w.met == nil || w.met.status == 0:
		w.signInUnreached(ctx)
	default:
		w.begin(idChallenge)
		ctx, cancel := context.WithTimeout(ctx, discoverLimit)
		defer cancel()
		d, err := w.s.Parts.Discover(ctx)
		w.tellSignIn(d, err)
	}
}

// signInUnreached looks at the login server although the upstream is not reached, if it is known.
func (w signInRows) signInUnreached(ctx context.Context) {
	const because = "the upstream is not reached"
	account, _ := w.s.SignIn.Stored()
	issuer := w.Command.Issuer
	if issuer == "" {
		issuer = account.Issuer
	}
	if issuer == "" {
		w.skipAll(because+", which names the login server", metadataRows...)
		return
	}
	w.skipAll(because, idChallenge, idResource)
	w.begin(idServer)
	ctx, cancel := context.WithTimeout(ctx, discoverLimit)
	defer cancel()
	d, err := w.s.Parts.DiscoverServer(ctx, issuer)
	w.tellServer(d, err)
}

// tellSignIn makes the rows of the metadata.
func (w signInRows) tellSignIn(d oauth.Discovery, err error) {
	asked := attempts(d.Tried, asclient.StepChallenge)
	switch {
	case d.Challenge == nil && !slices.ContainsFunc(d.Tried, isAnswer):
		w.fail(idChallenge, err, asked...)
		w.skipAll("the upstream has not answered", metadataRows[1:]...)
		return
	case d.Challenge == nil && w.s.SignIn != nil && !w.wantsToken(d):
		w.found.open = true
		w.ok(idChallenge, "the upstream takes requests without a token: no sign-in is needed", asked...)
		w.skipAll("no sign-in is needed", metadataRows[1:]...)
		return
	case d.Challenge == nil:
		w.ok(idChallenge, "the upstream asks for no token by itself; the settings say how to get one", asked...)
	default:
		w.ok(idChallenge, askedFor(d.Challenge), append(asked, challengeLines(d.Challenge)...)...)
	}
	if w.tellResource(d, err) {
		w.tellServer(d, err)
	}
}

// wantsToken reports whether a token is fetched although the upstream asks for none.
func (w signInRows) wantsToken(d oauth.Discovery) bool {
	return w.s.Parts.Grant() != oauth.GrantAuto && d.Resource.ID != ""
}

func isAnswer(a asclient.Attempt) bool { return a.Step == asclient.StepChallenge && a.Status != 0 }

// askedFor says what a challenge asks for.
func askedFor(c *asclient.Challenge) string {
	switch {
	case c.Bearer:
		return "the upstream asks for a Bearer token"
	case c.DPoP:
		return "the upstream asks for a DPoP token"
	}
	return "the upstream refuses requests without a token, and does not say that it wants a Bearer token"
}

// challengeLines words what a challenge says.
func challengeLines(c *asclient.Challenge) []string {
	var lines []string
	if c.Metadata != "" {
		lines = append(lines, "resource_metadata "+asclient.Quote(c.Metadata))
	}
	if c.Scope != "" {
		lines = append(lines, "scope "+asclient.Quote(c.Scope))
	}
	if c.Error != "" {
		lines = append(lines, "error "+asclient.QuoteCode(c.Error))
	}
	return lines
}

// attempts words the requests of one step.
func attempts(tried []asclient.Attempt, step string) []string {
	var lines []string
	for _, a := range tried {
		if a.Step == step {
			lines = append(lines, a.String())
		}
	}
	return lines
}

// tellResource makes the row of the protected resource's metadata. It reports whether the next
// rows can be looked at.
func (w signInRows) tellResource(d oauth.Discovery, err error) bool {
	lines := attempts(d.Tried, asclient.StepResource)
	refused, _ := errors.AsType[*asclient.SignInError](err)
	noServerAsked := len(attempts(d.Tried, asclient.StepServer)) == 0
	switch {
	case refused != nil && refused.Code == asclient.CodeResourceMismatch, err != nil && noServerAsked && d.Resource.ID == "":
		w.fail(idResource, err, lines...)
		w.skipAll("nothing names the login server", metadataRows[2:]...)
		return false
	case d.Resource.ID == "" && w.Command.Issuer != "":
		w.skip(idResource, "the upstream has none; --issuer names the login server")
	case d.Resource.ID == "" && len(lines) == 0:
		w.skip(idResource, "the settings say where the login server is")
	case d.Resource.ID == "":
		w.add(Check{ID: idResource, Result: OK, Evidence: lines, Summary: "the upstream has none: the login server is looked for at its origin (MCP 2025-03-26)"})
	default:
		w.ok(idResource, fmt.Sprintf("%s names %s", d.Resource.ID, join(d.Resource.Servers, ", ")), lines...)
	}
	return true
}

// join joins the words of a peer, at most a few of them.
func join(list []string, separator string) string {
	const most = 6
	if len(list) > most {
		return strings.Join(list[:most], separator) + fmt.Sprintf("%sand %d more", separator, len(list)-most)
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, separator)
}

// tellServer makes the rows of the login server.
func (w signInRows) tellServer(d oauth.Discovery, err error) {
	lines := attempts(d.Tried, asclient.StepServer)
	refused, _ := errors.AsType[*asclient.SignInError](err)
	switch {
	case refused != nil && refused.Code == asclient.CodeIssuerMismatch:
		w.ok(idServer, "there is a metadata document", lines...)
		w.fail(idIssuer, err)
		w.skipAll("the metadata is of another issuer", idPKCE, idWays)
		return
	case err != nil:
		w.fail(idServer, err, lines...)
		w.skipAll("the login server's metadata is not known", idIssuer, idPKCE, idWays)
		return
	case d.Server.Source == asclient.FromConfig:
		w.skip(idServer, "the settings give the endpoints")
	case d.Server.Source == asclient.FromDefaults:
		w.ok(idServer, "there is none: the endpoints are those that MCP 2025-03-26 assumes, at "+d.Server.TokenEndpoint, lines...)
	default:
		w.ok(idServer, d.Server.Name()+" has metadata", append(lines, serverLines(d.Server)...)...)
	}
	w.tellIssuer(d.Server)
	w.tellPKCE(d.Server)
	w.tellWays(d.Server)
}

// serverLines words what is used of a server's metadata.
func serverLines(s asclient.Server) []string {
	var lines []string
	for _, e := range []struct{ name, url string }{
		{"authorize", s.AuthorizationEndpoint}, {"token", s.TokenEndpoint}, {"register", s.RegistrationEndpoint},
		{"device", s.DeviceEndpoint}, {"push", s.PushEndpoint}, {"revoke", s.RevocationEndpoint},
	} {
		if e.url != "" {
			lines = append(lines, e.name+" "+asclient.Quote(e.url))
		}
	}
	return lines
}

// tellIssuer makes the row of the issuer.
func (w signInRows) tellIssuer(s asclient.Server) {
	switch {
	case s.Source != asclient.FromMetadata:
		w.skip(idIssuer, "there is no metadata to name one")
	case s.FoundAt != "":
		w.ok(idIssuer, fmt.Sprintf("the metadata at %s names %s, and nothing else vouches for it", s.FoundAt, s.Issuer))
	default:
		w.ok(idIssuer, s.Issuer+" is the one that was asked for")
	}
}

// byDevice reports whether a login would use the device grant.
func (w signInRows) byDevice(s asclient.Server) bool {
	return w.s.Parts.Grant() == oauth.GrantDeviceCode || w.s.Parts.Grant() == oauth.GrantAuto && s.AuthorizationEndpoint == "" && s.DeviceEndpoint != ""
}

// tellPKCE makes the row of PKCE, which the authorization code grant needs.
func (w signInRows) tellPKCE(s asclient.Server) {
	if !w.attended() || w.byDevice(s) {
		w.skip(idPKCE, "this grant uses no authorization code")
		return
	}
	w.found.byBrowser = true
	if s.Source == asclient.FromDefaults {
		w.skip(idPKCE, "there is no metadata; S256 is sent")
		return
	}
	if err := s.CheckPKCE(w.Command.PKCE == "assume"); err != nil {
		w.fail(idPKCE, err)
		return
	}
	if len(s.ChallengeMethods) == 0 {
		w.ok(idPKCE, "S256 is sent, as the settings say; the metadata does not mention PKCE")
		return
	}
	w.ok(idPKCE, "methods "+join(s.ChallengeMethods, ", "))
}

// tellWays makes the row of how the login server knows a client.
func (w signInRows) tellWays(s asclient.Server) {
	account, _ := w.s.SignIn.Stored()
	var ways []string
	if w.Command.ClientID != "" {
		ways = append(ways, "--client-id "+w.Command.ClientID)
	}
	if w.Command.ClientMetadataURL != "" && s.TakesMetadataDocument {
		ways = append(ways, "client ID metadata document "+w.Command.ClientMetadataURL)
	}
	if account.Registered {
		ways = append(ways, "registered at an earlier sign-in")
	}
	if s.RegistrationEndpoint != "" {
		ways = append(ways, "dynamic registration")
	}
	switch {
	case len(ways) > 0:
		w.ok(idWays, join(ways, "; "))
	case w.s.Parts.Grant() == oauth.GrantJWTBearer:
		w.skip(idWays, "the assertion says who we are")
	default:
		w.fail(idWays, &asclient.SignInError{Stage: asclient.StageRegister, Server: s.Name(), Code: asclient.CodeNoClient, Refused: true,
			Description: "the server registers no clients, and no client ID is given"})
	}
}
