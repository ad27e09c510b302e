package doctor

import "sallyport/cmd/sallyport/internal/lazyregexp"

// The IDs of the rows. Those of a hop are made by chain.id.
const (
	idSettings  = "settings"
	idClient    = "client"
	idConfig    = "ssh.config"
	idOpen      = "via.open"
	idListen    = "via.listen"
	idExec      = "via.exec"
	idProxy     = "upstream.proxy"
	idName      = "upstream.name"
	idTCP       = "upstream.tcp"
	idTLS       = "upstream.tls"
	idHTTP      = "upstream.http"
	idClock     = "clock"
	idChallenge = "signin.challenge"
	idResource  = "signin.resource"
	idServer    = "signin.server"
	idIssuer    = "signin.issuer"
	idPKCE      = "signin.pkce"
	idWays      = "signin.client"
	idStore     = "store.directory"
	idKey       = "store.key"
	idToken     = "token.stored"
	idAccepted  = "token.accepted"
	idMCP       = "upstream.mcp"
	idPort      = "callback.port"
	idTrip      = "callback.loopback"
	idBrowser   = "callback.browser"
	idHelper    = "callback.helper"
	idShared    = "shared"
	idProxies   = "proxies"
	idEntries   = "hosts"
)

// The rows of one hop, after "hop.N." or "callback.hop.N.".
const (
	rowConfig = "config"
	rowKeys   = "keys"
	rowName   = "name"
	rowTCP    = "tcp"
	rowKey    = "hostkey"
	rowKex    = "kex"
	rowLogin  = "login"
	rowTrip   = "roundtrip"
)

// reasons says of each row what it matters for. Those of a hop have no number here.
var reasons = map[string]string{
	idSettings:         "a setting that is wrong, or comes from another place than you think, explains many failures",
	idClient:           "MCP hosts start their servers with less than a terminal has: variables, PATH, folder",
	idConfig:           "ssh_config says how the hosts are reached; it is read as ssh reads it",
	"hop." + rowConfig: "the first value that a file gives for a keyword counts, as with ssh",
	"hop." + rowKeys:   "a server counts each key that is offered as a try, so their order matters",
	"hop." + rowName:   "without an address there is nothing to connect to",
	"hop." + rowTCP:    "everything else runs over this connection",
	"hop." + rowKey:    "the host key proves that nobody sits in between",
	"hop." + rowKex:    "the algorithms protect what is sent, also against whoever records it today",
	"hop." + rowLogin:  "a proxy has nobody to ask: the login has to work without a person",
	"hop." + rowTrip:   "each call takes at least one round trip",
	idOpen:             "the upstream is reached by a forward from the last hop",
	idListen:           "a remote forward brings the callback of a login to another machine",
	idExec:             "sallyport callback carries logins by a command where it cannot forward",
	idProxy:            "HTTPS_PROXY and HTTP_PROXY count for direct requests",
	idName:             "the upstream's name is resolved where the last hop is, or here without one",
	idTCP:              "something has to listen at the upstream's address and port",
	idTLS:              "tokens are only sent to a server that its certificate vouches for",
	idHTTP:             "the upstream, or what stands before it, has to speak HTTP",
	idClock:            "certificates, tokens and proofs are judged by the clock",
	idChallenge:        "the upstream says by a 401 that it wants a token, and where its metadata is",
	idResource:         "this document names the login server (RFC 9728)",
	idServer:           "this document has the login server's endpoints (RFC 8414, OpenID Connect Discovery)",
	idIssuer:           "metadata of another issuer could lead the sign-in astray",
	idPKCE:             "without PKCE somebody else could use the code of a login",
	idWays:             "the login server has to know a client before it signs anybody in",
	idStore:            "tokens are kept here between runs",
	idKey:              "the stored tokens are sealed with this key",
	idToken:            "with a token nobody has to be asked",
	idAccepted:         "a token may be revoked before it expires",
	idMCP:              "the URL has to be that of an MCP endpoint, with its path",
	idPort:             "the browser brings the result of a login to this port",
	idTrip:             "a firewall or a security program may keep the browser from it",
	idBrowser:          "the login page opens there; without one the link is printed",
	idHelper:           "a browser on another machine is lent by sallyport callback",
	idShared:           "all processes share one connection to a bastion, and one login",
	idProxies:          "a running proxy knows what is in its way",
	idEntries:          "an MCP host starts what its file says",
}

// hopNumber is the part of an ID that counts hops.
var hopNumber = lazyregexp.New(`^(?:callback\.)?hop\.[0-9]+\.`)

// whyOf returns the reason of a row.
func whyOf(id string) string { return reasons[hopNumber().ReplaceAllString(id, "hop.")] }
