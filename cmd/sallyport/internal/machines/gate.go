//go:build linux

package machines

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/oauth/oauthtest"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func init() { Role("gate", playGate) }

// GateOptions says what a gate is like. CA, OIDC and Upstream are required.
type GateOptions struct {
	// NS is where it runs; nil is the machine of the tests.
	NS *Namespace
	// CA signs its certificate.
	CA *Authority
	// OIDC is the authorization server whose tokens it takes.
	OIDC *OIDC
	// Upstream is the URL of the MCP server behind it.
	Upstream string
	// Names are those of its certificate; nil means the names that it has.
	Names []string
	// Audience is what a token must be for; empty means its URL.
	Audience string
	// DPoP has it take tokens that are bound to a key, with proofs that hold the nonce that it
	// gave.
	DPoP bool
}

// Gate is a protected resource: TLS and a check of bearer tokens (RFC 6750, RFC 9728) in front of
// an MCP server.
type Gate struct {
	*Process
	// URL is the MCP endpoint: https://mcp.internal/mcp in a namespace, else on 127.0.0.1.
	URL string
	CA  *Authority
}

// StartGate starts a gate. It ends with the test.
func StartGate(t testing.TB, o GateOptions) *Gate {
	t.Helper()
	config := gateConfig{Listen: "127.0.0.1:0", Issuer: o.OIDC.Issuer, Keys: o.OIDC.PublicKeys(), Audience: o.Audience,
		Upstream: o.Upstream, DPoP: o.DPoP}
	if o.NS != nil {
		config.Listen, config.Name = "127.0.0.1:443", "mcp.internal"
	}
	if o.Names == nil {
		o.Names = []string{"mcp.internal", "127.0.0.1"}
	}
	config.Cert, config.Key = o.CA.Issue(t, o.Names...)
	p, endpoint := StartRole(t, o.NS, "gate", config)
	return &Gate{URL: endpoint, CA: o.CA, Process: p}
}

// Addr is host:port of a gate on the machine of the tests.
func (g *Gate) Addr() string {
	return strings.TrimSuffix(strings.TrimPrefix(g.URL, "https://"), "/mcp")
}

// GateRequest is a request that reached a gate.
type GateRequest struct {
	Method, Path, Host, Session string
	Status                      int
	// Refused says why the token did not pass; empty if it did.
	Refused string
}

// Requests returns the requests so far of which at least the header was answered.
func (g *Gate) Requests(t testing.TB) []GateRequest {
	t.Helper()
	var requests []GateRequest
	for line := range strings.Lines(g.Out.String()) {
		if !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "\n") {
			continue // the first line, and one that is being written
		}
		var r GateRequest
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("the gate printed %q: %v", line, err)
		}
		requests = append(requests, r)
	}
	return requests
}

// gateConfig is what the gate's process gets.
type gateConfig struct {
	Listen           string
	Name             string // the host in its URL; empty means the address that it got
	Cert, Key        string
	Issuer, Audience string
	Keys             jose.JSONWebKeySet
	Upstream         string
	DPoP             bool
}

// gateMetadata is the path of the protected resource metadata.
const gateMetadata = "/.well-known/oauth-protected-resource/mcp"

// playGate is the gate's process. It prints its URL, then a GateRequest a line.
func playGate(text []byte) error {
	var config gateConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return err
	}
	if config.Name == "" {
		config.Name = listener.Addr().String()
	}
	origin := "https://" + config.Name
	if config.Audience == "" {
		config.Audience = origin + "/mcp"
	}
	upstream, err := url.Parse(config.Upstream)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+gateMetadata, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"resource": origin + "/mcp", "authorization_servers": []string{config.Issuer},
			"scopes_supported": []string{"mcp"}, "bearer_methods_supported": []string{"header"},
		})
	})
	mux.Handle("/mcp", config.guard(origin, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = upstream.Scheme, upstream.Host, upstream.Host
			r.Out.Header.Del("DPoP")
			r.Out.Header.Del("Authorization") // a token is for this resource alone
		},
		FlushInterval: -1, // event streams
		ErrorLog:      log.New(os.Stderr, "gate: ", 0),
	}))
	fmt.Println(origin + "/mcp")
	server := &http.Server{Handler: recorded(mux), ErrorLog: log.New(os.Stderr, "gate: ", 0)}
	return server.ServeTLS(listener, config.Cert, config.Key)
}

// guard lets those through whose token is good.
func (config *gateConfig) guard(origin string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme := "Bearer"
		if config.DPoP {
			scheme = "DPoP"
			w.Header().Set("DPoP-Nonce", gateNonce)
		}
		err := config.check(r, origin+r.URL.Path)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		challenge := fmt.Sprintf(`%s resource_metadata="%s%s", scope="mcp"`, scheme, origin, gateMetadata)
		switch {
		case err == ErrNonce:
			challenge += `, error="use_dpop_nonce"`
		case r.Header.Get("Authorization") != "":
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.(*recorder).request.Refused = err.Error()
		http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
	})
}

const gateNonce = "the nonce of the gate"

// ErrNonce is why a gate refuses a proof that does not hold its nonce.
var ErrNonce = errors.New("the proof lacks the nonce")

// check says why a request to target must not pass: RFC 9068, section 4; RFC 9449, section 7.
func (config *gateConfig) check(r *http.Request, target string) error {
	want := "Bearer"
	if config.DPoP {
		want = "DPoP"
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme != want {
		return errors.New("no token of the kind " + want)
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return err
	}
	var claims jwt.Claims
	var bound struct {
		Confirmation struct {
			Thumbprint string `json:"jkt"`
		} `json:"cnf"`
	}
	if err := token.Claims(config.Keys, &claims, &bound); err != nil {
		return err
	}
	if config.DPoP {
		switch proof, err := oauthtest.CheckProof(r, target, text, time.Now()); {
		case err != nil:
			return err
		case proof.Thumbprint != bound.Confirmation.Thumbprint:
			return errors.New("the token is bound to another key")
		case proof.Nonce != gateNonce:
			return ErrNonce
		}
	}
	if claims.Expiry == nil {
		return errors.New("no expiry")
	}
	return claims.ValidateWithLeeway(jwt.Expected{Issuer: config.Issuer, AnyAudience: jwt.Audience{config.Audience},
		Time: time.Now()}, 0)
}

// recorded prints a GateRequest for each request to next.
func recorded(next http.Handler) http.Handler {
	var mu sync.Mutex // one line at a time
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&recorder{
			ResponseWriter: w,
			request: GateRequest{Method: r.Method, Path: r.URL.Path, Host: r.Host,
				Session: r.Header.Get("Mcp-Session-Id")},
			answered: func(request GateRequest) {
				mu.Lock()
				defer mu.Unlock()
				json.NewEncoder(os.Stdout).Encode(request)
			},
		}, r)
	})
}

// recorder is a ResponseWriter that reports the status as soon as it is known, for event streams
// last.
type recorder struct {
	http.ResponseWriter
	request  GateRequest
	answered func(GateRequest)
}

func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

func (rec *recorder) WriteHeader(status int) {
	if status >= 200 && rec.request.Status == 0 {
		rec.request.Status = status
		rec.answered(rec.request)
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(p []byte) (int, error) {
	if rec.request.Status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	return rec.ResponseWriter.Write(p)
}
