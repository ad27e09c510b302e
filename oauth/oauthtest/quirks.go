package oauthtest

import "slices"

// Quirks returns the table of quirks. Each row is a kind of server that people have met. The rows
// stand in the files quirks_*.go, by the place where the server is odd. They are functions, so that
// the linker leaves them out of the command, which has this package for `sallyport try`.
func Quirks() []Quirk {
	return slices.Concat(resourceQuirks(), serverQuirks(), registerQuirks(), authorizeQuirks(), tokenQuirks(),
		refreshQuirks(), busyQuirks(), endpointQuirks(), upstreamQuirks(), gatewayQuirks(), productQuirks())
}

// Short forms for the rows.
var (
	// once means that the server is broken for a moment: one call may fail.
	once = Want{Failures: 1}
	// lostLogin means that one login comes to nothing, and the next one is good.
	lostLogin = Want{Failures: 1, Pages: 2}
	// pageEachTime means that no token can be refreshed: each expiry takes a login page.
	pageEachTime = Want{Pages: 3}
	// pageLater means that no token can be refreshed, and that the server does not say so: each
	// expiry takes some tries, and then a login page.
	pageLater = Want{Pages: 3, Failures: 4}
	// vouched means that the person has to say which authorization server is right.
	vouched = Want{Refused: "discovery", With: "--issuer $issuer"}

	// theirs means an authorization server at the upstream's origin.
	theirs = Home{Upstream: true}

	// unsigned are the conditions of a request to the upstream without a good token.
	unsigned = []string{"!bearer=live", "!bearer=young"}
)

// refused means a refusal that no setting helps against, before a login page.
func refused(code string) Want { return Want{Refused: code} }

// refusedAfterPage means the same after a login page.
func refusedAfterPage(code string) Want { return Want{Refused: code, Pages: 1} }

// servedWith means a refusal that a setting gets past.
func servedWith(code, setting string) Want { return Want{Refused: code, With: setting} }

// member makes a rule that sets one JSON member at a place.
func member(at Place, path, value string) []Rule {
	return []Rule{{At: at, Set: map[string]string{path: value}}}
}

// says makes a rule with a status and a body at a place.
func says(at Place, status int, body string) []Rule {
	return []Rule{{At: at, Status: status, Body: body}}
}

// saysOnce is says for the first request.
func saysOnce(at Place, status int, body string) []Rule {
	return []Rule{{At: at, Status: status, Body: body, Times: 1}}
}

// challenges makes a rule that replaces the challenge of the upstream to a request without a good
// token.
func challenges(status int, challenge string) []Rule {
	return []Rule{{At: Upstream, When: unsigned, Status: status, Body: "token wanted", Type: "text/plain",
		Header: map[string]string{"WWW-Authenticate": challenge}}}
}

// back makes a rule that leads the browser back with these parameters, and the right state and iss.
func back(parameters string, when ...string) []Rule {
	return []Rule{{At: Authorize, When: when,
		Redirect: "${request.redirect_uri}?state=${request.state}&iss=$issuer&" + parameters}}
}

// Knobs that several rows turn. Each function is named for what the server then does.
func noResourceMetadata(k *Knobs) { k.NoResourceMetadata = true }
func noRefreshToken(k *Knobs)     { k.NoRefresh = true }
func keepsRefreshToken(k *Knobs)  { k.KeepRefresh = true }
func noIss(k *Knobs)              { k.NoIss = true }
func numericIDs(k *Knobs)         { k.NumericIDs = true }
func secretByBasic(k *Knobs)      { k.AuthMethods = []string{"client_secret_basic"} }
func secretByPost(k *Knobs)       { k.AuthMethods = []string{"client_secret_post"} }
func deviceOnly(k *Knobs)         { k.DeviceOnly = true }

// cloudflare, nginx, portal and spa are pages of machines before the server. entra is the refusal
// of a resource.
const (
	cloudflare = `<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Enable JavaScript and cookies to continue</body></html>`
	nginx      = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body></html>\r\n"
	portal     = `<html><body>Welcome to the guest network. Please accept the terms.</body></html>`
	spa        = `<!doctype html><html><head><script src="/assets/index.js"></script></head><body><div id="root"></div></body></html>`
	entra      = "error=invalid_target&error_description=AADSTS9010010%3A+The+resource+parameter+provided+in+the+request+doesn%27t+match+with+the+requested+scopes."
)
