package asclient

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// claimsOf reads the claims of an ID token (OpenID Connect Core section 2). It does not verify the
// signature: the ID token came from the token endpoint itself (section 3.1.3.7), and whoever acts
// on it verifies it. It returns an empty document for a token that it cannot read.
func claimsOf(idToken string) document {
	parts := strings.Split(idToken, ".")
	if len(parts) != 3 {
		return document{}
	}
	text := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(parts[1], "="))
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return document{}
	}
	claims, _ := readDocument(b)
	return claims
}

// upstreamMayHave reports whether c's upstream may have an ID token that s gave (BearerID). The
// token must be one of s (OpenID Connect Core section 3.1.3.7), because an upstream could name
// itself as the issuer, and another server's endpoints, to get a token of that server. An upstream
// that is the token endpoint itself has the token already. A token without an issuer proves
// nothing. The person may also vouch for the server.
func upstreamMayHave(c *Client, s Server, idToken string) bool {
	iss := claimsOf(idToken).text("iss")
	return iss == "" || c.Issuer != "" || s.Source == FromConfig || isAt(s.TokenEndpoint, c.Upstream.String()) ||
		s.isIssuer(iss) || s.isIssuer("https://"+iss) // the second is Google's
}

// lifetimeOf returns how long an ID token that was just issued is valid. It returns 0 if the token
// does not say. The two times in the token are of one clock, which may differ from ours.
func lifetimeOf(idToken string) time.Duration {
	claims := claimsOf(idToken)
	issued, err1 := strconv.ParseFloat(claims.text("iat"), 64)
	expiry, err2 := strconv.ParseFloat(claims.text("exp"), 64)
	if err1 != nil || err2 != nil || issued <= 0 || !(expiry > issued) {
		return 0
	}
	return time.Duration(math.Min(expiry-issued, maxLifetime.Seconds()) * float64(time.Second))
}

// accountOf returns how the member id_token names the person, or "" if it does not. Some servers
// send the claims themselves in place of a token.
func accountOf(member json.RawMessage) string {
	claims, ok := readDocument(member)
	if text, isText := textOf(member); !ok && isText {
		claims = claimsOf(text)
	}
	for _, name := range []string{"email", "preferred_username", "sub"} {
		who := claims.text(name)
		if who != "" && !strings.ContainsFunc(who, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return cut(who)
		}
	}
	return ""
}
