package explain

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/cmd/sallyport/internal/install"
	"sallyport/cmd/sallyport/internal/localsock"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/oauth"
	"sallyport/oauth/asclient"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"

	"golang.org/x/crypto/ssh"
)

func TestSignInHints(t *testing.T) {
	set := func(change func(*cli.Remote)) (r cli.Remote) {
		change(&r)
		return r
	}
	none := cli.Remote{}
	client := set(func(r *cli.Remote) { r.ClientID = "c" })
	for _, tt := range []struct {
		name    string
		stage   string
		code    string
		text    string
		given   cli.Remote
		want    string
		wantNot string
	}{
		{"PKCE not advertised", asclient.StageDiscovery, asclient.CodePKCE, "", none, "--pkce assume", "tries again"},
		{"identity provider", asclient.StageExchange, "invalid_grant", "", none, "--id-token-file", "tries again"},
		{"assertion", asclient.StageToken, "invalid_grant", "", set(func(r *cli.Remote) { r.AssertionFile = "f" }), "--assertion-file", "tries again"},
		{"assertion of an identity provider", asclient.StageToken, "invalid_grant", "", set(func(r *cli.Remote) { r.Grant = oauth.GrantEnterpriseManaged }), "--idp-issuer", "--assertion-file"},
		{"a code", asclient.StageToken, "invalid_grant", "", none, "tries again", "--assertion-file"},
		{"a given refresh token", asclient.StageToken, "invalid_grant", "", set(func(r *cli.Remote) { r.RefreshToken = "t" }), "used up", "tries again"},
		{"no client", asclient.StageRegister, asclient.CodeNoClient, "", none, "--client-id", "tries again"},
		{"no client although one is given", asclient.StageRegister, asclient.CodeNoClient, "", client, "operator", "give --client-id"},
		{"localhost only", asclient.StageRegister, "invalid_redirect_uri", "", none, "--callback-host localhost", "tries again"},
		{"localhost only, in words", asclient.StageRegister, "invalid_client_metadata", "Redirect URI must be localhost", none, "--callback-host localhost", ""},
		{"localhost does not help", asclient.StageRegister, "invalid_redirect_uri", "", set(func(r *cli.Remote) { r.CallbackHost = "localhost" }), "--client-id", "--callback-host"},
		{"closed registration", asclient.StageRegister, "access_denied", "", none, "--client-id", "tries again"},
		{"resource mismatch", asclient.StageDiscovery, asclient.CodeResourceMismatch, "", none, "--resource none", ""},
		{"issuer mismatch", asclient.StageDiscovery, asclient.CodeIssuerMismatch, "", none, "--issuer", "tries again"},
		{"iss of the redirect", asclient.StageAuthorize, asclient.CodeIssuerMismatch, "", none, "do not go on", "--issuer"},
		{"cleartext", asclient.StageDiscovery, asclient.CodeInsecureURL, "", none, "--allow-insecure-http", "tries again"},
		{"cleartext is allowed", asclient.StageDiscovery, asclient.CodeInsecureURL, "", set(func(r *cli.Remote) { r.AllowInsecureHTTP = true }), "--issuer", "--allow-insecure-http"},
		{"a URL of another scheme", asclient.StageDiscovery, asclient.CodeInsecureURL, "", none, "--issuer", "--allow-insecure-http"},
		{"resource is unknown at the page", asclient.StageAuthorize, "invalid_request", "Unknown parameter: resource", none, "--resource none", "from no client"},
		{"audience is wanted", asclient.StageAuthorize, "invalid_request", "audience is required", none, "--audience NAME", "from no client"},
		{"public client", asclient.StageToken, "invalid_client", "", client, "--client-secret-file", "--auth-style"},
		{"secret", asclient.StageToken, "invalid_client", "", set(func(r *cli.Remote) { r.ClientID, r.ClientSecret = "c", "s" }), "OAUTH2_CLIENT_SECRET", "--client-secret-file"},
		{"secret, style given", asclient.StageToken, "invalid_client", "", set(func(r *cli.Remote) { r.ClientID, r.ClientSecret, r.AuthStyle = "c", "s", "body" }), "than --auth-style body", "or header"},
		{"key", asclient.StageToken, "invalid_client", "", set(func(r *cli.Remote) { r.ClientID, r.ClientKey = "c", "k" }), "--client-key", "--client-secret"},
		{"own registration", asclient.StageToken, "invalid_client", "", none, "registers another one", "--client-id"},
		{"scope", asclient.StageAuthorize, "invalid_scope", "", none, "--scope 'A B'", ""},
		{"given scope", asclient.StageAuthorize, "invalid_scope", "", set(func(r *cli.Remote) { r.Scope = "a b" }), `--scope "a b"`, "'A B'"},
		{"Entra's resource", asclient.StageToken, "invalid_request", "AADSTS9010010: The resource parameter", none, "--resource none", ""},
		{"Entra's resource is left out", asclient.StageToken, "invalid_request", "AADSTS9010010: x", set(func(r *cli.Remote) { r.Resource = oauth.ResourceNone }), "--resource URI", "none leaves"},
		{"Entra's consent", asclient.StageAuthorize, "invalid_grant", "AADSTS65001: x", none, "administrator", "tries again"},
		{"Entra's tenant", asclient.StageToken, "unauthorized_client", "AADSTS700016", client, "--client-id", ""},
		{"prompt", asclient.StageAuthorize, "login_required", "", set(func(r *cli.Remote) { r.ExtraParams = cli.StringMap{"prompt": "none"} }), "prompt=none", "--authorize-param"},
		{"consent", asclient.StageAuthorize, "consent_required", "", none, "administrator", "tries again"},
		{"a reason of its own", asclient.StageToken, "we_hate_mondays", "", none, "ask its operator", "tries again"},
	} {
		err := &asclient.SignInError{Stage: tt.stage, Code: tt.code, Description: tt.text, Refused: true,
			Cleartext: strings.HasPrefix(tt.name, "cleartext")}
		e := Explainer{Settings: tt.given}.Error(err)
		got := strings.Join(e.Hints, "\n")
		if e.Status != StatusSignIn || e.Final != nil || !strings.Contains(got, tt.want) || tt.wantNot != "" && strings.Contains(got, tt.wantNot) {
			t.Errorf("%s: status %d, final %v, hints %q, want one with %s and none with %q", tt.name, e.Status, e.Final, e.Hints, tt.want, tt.wantNot)
		}
	}
	unreadable := &asclient.SignInError{Stage: asclient.StageToken, Code: asclient.CodeNoAssertion, Refused: true, Err: &cli.UsageError{Text: "assertion file: gone"}}
	if e := Error(unreadable); e.Status != StatusUsage || e.Final == nil || !errors.Is(e.Final, unreadable) {
		t.Errorf("an assertion that cannot be read: %+v", e)
	}
}

// Each of our own codes has hints of its own, because the general hints for an unknown code do not
// help.
func TestEveryCodeIsExplained(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../../../../oauth/asclient/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	hintsOf := func(code string) string {
		e := &asclient.SignInError{Stage: asclient.StageDiscovery, Code: code, Refused: true}
		return strings.Join(Error(e).Hints, "\n")
	}
	unknown, codes := hintsOf("unknown_code"), 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Code") || len(spec.Values) == 0 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		codes++
		code, _ := strconv.Unquote(literal.Value)
		if got := hintsOf(code); got == unknown || got == "" {
			t.Errorf("%s: hints %q, want some of its own", spec.Names[0].Name, got)
		}
		return true
	})
	if codes < 8 {
		t.Errorf("%d codes found", codes)
	}
}

// errorCase is an error and what becomes of it.
type errorCase struct {
	name   string
	err    error
	kind   string
	status int
	hint   string // part of the hints
	final  bool
}

// errorCases holds one error of each row of the table.
func errorCases() []errorCase {
	hop := func(stage string, err error) error {
		return &sshtunnel.HopError{Hop: "bastion", Stage: stage, Err: err}
	}
	dial := func(err error) error {
		return &url.Error{Op: "Post", URL: "https://me:pw@mcp.example/mcp?key=s3cret", Err: &session.DialError{Err: err}}
	}
	signIn := func(err error) error { return &asclient.SignInError{Stage: asclient.StageToken, Err: err} }
	unrevoked := func(err error) error { return &oauth.RevocationError{Err: err} }
	agentFault := func(e userkeys.AgentError) error {
		return hop(sshtunnel.StageAuth, &sshtunnel.AuthError{Hop: "bastion", NeedsPerson: true, Agent: &e})
	}
	return []errorCase{
		{"usage", &cli.UsageError{Text: "no upstream URL", Hints: []string{"type one"}}, KindConfig, StatusUsage, "type one", true},
		{"ssh_config", &sshconfig.Error{File: "config", Line: 2, Msg: "bad port"}, KindConfig, StatusUsage, "ssh -G", true},
		{"ssh_config by flags", &sshconfig.Error{Msg: "bad port"}, KindConfig, StatusUsage, "check --via, -J and -o", true},
		{"revoked host key", hop(sshtunnel.StageHandshake, &hostkeys.Error{Hop: "bastion", Revoked: true}), KindHostKey, StatusHostKey, "do not connect", true},
		{"changed host key", hop(sshtunnel.StageHandshake, &hostkeys.Error{Hop: "bastion", Changed: true}), KindHostKey, StatusHostKey, "new fingerprint", true},
		{"unknown host key", hop(sshtunnel.StageHandshake, &hostkeys.Error{Hop: "bastion", Unknown: true}), KindHostKey, StatusHostKey, "accept it once", true},
		{"SSH refuses the user", hop(sshtunnel.StageAuth, &sshtunnel.AuthError{Hop: "bastion"}), KindSSHAuth, StatusSSHAuth, "ssh -v bastion", true},
		{"SSH wants a person", hop(sshtunnel.StageAuth, &sshtunnel.AuthError{Hop: "bastion", NeedsPerson: true}), KindSSHPerson, StatusSSHAuth, "ssh-add", false},
		{"host key is short", hop(sshtunnel.StageHandshake, &hostkeys.Error{Hop: "bastion", Short: true}), KindHostKey, StatusHostKey, "RequiredRSASize", true},
		{"agent is gone", agentFault(userkeys.AgentError{Fault: userkeys.AgentGone, FromEnvironment: true}), KindSSHPerson, StatusSSHAuth, "SSH_AUTH_SOCK is that of an agent that has ended", false},
		{"agent of IdentityAgent is gone", agentFault(userkeys.AgentError{Fault: userkeys.AgentGone}), KindSSHPerson, StatusSSHAuth, "IdentityAgent in ssh_config, under Host bastion", false},
		{"agent is silent", agentFault(userkeys.AgentError{Fault: userkeys.AgentSilent}), KindSSHPerson, StatusSSHAuth, "ssh-add -l asks the same agent", false},
		{"agent does not sign", agentFault(userkeys.AgentError{Fault: userkeys.AgentRefused, Signing: true}), KindSSHPerson, StatusSSHAuth, "ssh-add -h bastion FILE", false},
		{"too many keys", hop(sshtunnel.StageAuth, &sshtunnel.AuthError{Hop: "bastion", TooMany: true}), KindSSHAuth, StatusSSHAuth, "IdentitiesOnly", true},
		{"hop cannot connect", &sshtunnel.OpenError{Hop: "bastion", Addr: "mcp:443", Reason: ssh.ConnectionFailed}, KindUnreachable, StatusUnreachable, "does bastion resolve", false},
		{"hop forbids forwarding", &sshtunnel.OpenError{Hop: "bastion", Addr: "mcp:443", Reason: ssh.Prohibited}, KindForwarding, StatusUnreachable, "permit forwarding to mcp:443", false},
		{"workstation forbids listening", &sshtunnel.ListenError{Hop: "desk", Addr: "127.0.0.1:53682"}, KindPort, StatusFailed, "free the port on desk", false},
		{"name of a hop", hop(sshtunnel.StageConnect, &net.DNSError{Name: "bastoin"}), KindUnreachable, StatusUnreachable, "alias of a Host block", false},
		{"hop refuses the connection", hop(sshtunnel.StageConnect, syscall.ECONNREFUSED), KindUnreachable, StatusUnreachable, "HostName and Port", false},
		{"hop is unreachable", hop(sshtunnel.StageConnect, syscall.EHOSTUNREACH), KindUnreachable, StatusUnreachable, "check the network", false},
		{"link broke", hop(sshtunnel.StageLink, io.EOF), KindUnreachable, StatusUnreachable, "connects again", false},
		{"callback port of a login", signIn(&oauth.PortBusyError{Addr: "127.0.0.1:53682"}), KindPort, StatusFailed, "holds port 53682", false},
		{"login forbidden", &oauth.LoginRequiredError{Upstream: "https://mcp.example"}, KindSignIn, StatusSignIn, "OAUTH2_INTERACTIVE=true", false},
		{"secret in the other place", &asclient.SignInError{Code: "invalid_client", OtherMethod: asclient.AuthPost}, KindSignIn, StatusSignIn, "--auth-style body", false},
		{"secret in the header", &asclient.SignInError{Code: "invalid_client", OtherMethod: asclient.AuthBasic}, KindSignIn, StatusSignIn, "--auth-style header", false},
		{"token refused", &oauth.TokenRefusedError{Upstream: "https://mcp.example"}, KindRefused, StatusSignIn, "--scope", false},
		{"private address", signIn(&session.PrivateAddressError{Addr: "as.example:443", Resolved: "10.0.0.1:443"}), KindMetadata, StatusSignIn, "if as.example:443 is", false},
		{"no metadata", &asclient.DiscoveryError{What: "metadata"}, KindMetadata, StatusSignIn, "OAUTH2_TOKEN_URL", false},
		{"login server unreachable", &asclient.DiscoveryError{What: "metadata", Err: dial(syscall.ECONNREFUSED)}, KindUnreachable, StatusUnreachable, "nothing listens", false},
		{"not revoked", errors.Join(unrevoked(&asclient.SignInError{Stage: asclient.StageRevoke, Status: 503}), nil), KindSignIn, StatusSignIn, "nothing remains to be done on this machine", false},
		{"revocation unreachable", unrevoked(&asclient.SignInError{Stage: asclient.StageRevoke, Err: dial(syscall.ECONNREFUSED)}), KindUnreachable, StatusUnreachable, "own page", false},
		{"way to the revocation is down", unrevoked(hop(sshtunnel.StageConnect, syscall.ECONNREFUSED)), KindUnreachable, StatusUnreachable, "HostName and Port", false},
		{"not revoked and kept", &oauth.RevocationError{Kept: true, Err: syscall.ECONNREFUSED}, KindUnreachable, StatusUnreachable, "--force", false},
		{"not revoked and not forgotten", errors.Join(unrevoked(&asclient.SignInError{Stage: asclient.StageRevoke}), syscall.ENOSPC), KindSignIn, StatusSignIn, "tries again", false},
		{"sign-in failed", signIn(errors.New("server busy")), KindSignIn, StatusSignIn, "tries again", false},
		{"callback port of the command", &callback.PortError{Addr: "127.0.0.1:1", Err: syscall.EADDRINUSE}, KindPort, StatusFailed, "holds port 1,", false},
		{"credentials refused", &session.UnauthorizedError{Upstream: "https://mcp.example"}, KindRefused, StatusSignIn, "sallyport logout URL", false},
		{"tokens not stored", &session.NotStoredError{Err: syscall.ENOSPC}, KindOther, StatusFailed, "--state-dir DIR", false},
		{"another user's directory", &localsock.DirError{Dir: "/run/x", Owner: 5}, KindOther, StatusFailed, "XDG_RUNTIME_DIR", false},
		{"an open directory", &localsock.DirError{Dir: "/run/x", Owner: -1, Mode: 0o777}, KindOther, StatusFailed, "chmod 700 /run/x", false},
		{"a shared connection is silent", &share.SilentError{Path: "/run/x.sock", Err: context.DeadlineExceeded}, KindOther, StatusFailed, "fuser /run/x.sock", false},
		{"a shared connection does not answer", &share.SilentError{Path: "/run/x.sock", Err: syscall.ECONNRESET}, KindOther, StatusFailed, "starts another", false},
		{"a name that is taken", &install.TakenError{Name: "x", Path: "/f", Kind: install.Foreign, Free: "x-2"}, KindConfig, StatusUsage, "--name x-2", true},
		{"the same URL by mcp-remote", &install.TakenError{Name: "x", Path: "/f", Kind: install.MCPRemote, SameUpstream: true, Free: "y-2"}, KindConfig, StatusUsage, "--replace", true},
		{"ours, to another URL", &install.TakenError{Name: "x", Path: "/f", Kind: install.Ours, Free: "x-2"}, KindConfig, StatusUsage, "--name x replaces it", true},
		{"uninstall of another's entry", &install.TakenError{Name: "x", Path: "/f", Kind: install.Foreign}, KindConfig, StatusUsage, "is left alone", true},
		{"several entries", &install.SeveralError{}, KindConfig, StatusUsage, "--client-scope", true},
		{"a file that does not parse", &install.SyntaxError{Path: "/f", Text: "line 1"}, KindConfig, StatusUsage, "the file is unchanged", true},
		{"a read-only file", &install.ReadOnlyError{Path: "/f", Target: "/store/f"}, KindConfig, StatusUsage, "--dry-run", true},
		{"a file that changes all the time", &install.BusyError{Path: "/f"}, KindOther, StatusFailed, "end the host", false},
		{"no shell on the host", &callback.OwnerError{Host: "desk", Err: io.EOF}, KindOwner, StatusFailed, "needs a shell on desk", false},
		{"neither way from the host", &helper.CarryError{Host: "desk", Exec: &sshtunnel.OpenError{Hop: "desk", Network: "session"}, Forward: &sshtunnel.ListenError{Hop: "desk"}},
			KindForwarding, StatusUnreachable, "AllowStreamLocalForwarding", false},
		{"no sallyport on the host", &helper.MissingError{Host: "desk"}, KindOther, StatusFailed, "sallyport callback --install desk", false},
		{"a sallyport that does not run", &helper.MissingError{Host: "desk", Program: "/x", Status: 126, System: "Linux aarch64"}, KindOther, StatusFailed, "kind (Linux aarch64)", false},
		{"a socket that is open to others", &helper.ProofError{Host: "desk", Way: helper.ByForward, Mask: true, Err: io.EOF}, KindForwarding, StatusUnreachable, "StreamLocalBindMask 0177", false},
		{"an old sallyport on the host", &helper.OldError{Host: "desk"}, KindOther, StatusFailed, "sallyport callback --install desk", false},
		{"no socket on the host", &helper.FarEndError{Host: "desk", Text: "no room"}, KindOther, StatusFailed, "XDG_RUNTIME_DIR", false},
		{"nothing comes from the host", &helper.ProofError{Host: "desk", Way: helper.ByForward, Err: io.EOF}, KindForwarding, StatusUnreachable, "login --paste", false},
		{"a port that others reach", &session.GatewayError{Host: "desk", Addr: "1"}, KindForwarding, StatusFailed, "GatewayPorts no", false},
		{"nobody listens on the host", &callback.OwnerError{Host: "desk", Port: 1}, KindOwner, StatusFailed, "start the login on desk", false},
		{"no second command on the host", &callback.OwnerError{Host: "desk", Err: &sshtunnel.OpenError{Hop: "desk", Network: "session"}}, KindForwarding, StatusUnreachable, "sshd of desk runs no more commands on one connection: MaxSessions", false},
		{"nothing leads to the port", &callback.ForwardError{Host: "desk", Port: 1, Err: &helper.MissingError{Host: "desk"}}, KindForwarding, StatusUnreachable, "type on desk, between single quotes: curl", false},
		{"another user listens", &callback.OwnerError{Host: "desk", Port: 1, Owners: []string{"1001"}}, KindOwner, StatusFailed, "another user", false},
		{"certificate of another host", dial(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"other"}}}), KindTLS, StatusUnreachable, "for other", false},
		{"unknown authority", dial(x509.UnknownAuthorityError{}), KindTLS, StatusUnreachable, "--ca-file", false},
		{"certificate not valid", dial(&tls.CertificateVerificationError{Err: io.EOF}), KindTLS, StatusUnreachable, "clock", false},
		{"old TLS", dial(&net.OpError{Op: "remote error", Err: errors.New("tls: protocol version not supported")}), KindTLS, StatusUnreachable, "TLS of 1.2 or later", false},
		{"another alert", dial(&net.OpError{Op: "remote error", Err: errors.New("tls: access denied")}), KindTLS, StatusUnreachable, "ask its operator what it wants", false},
		{"no TLS", dial(tls.RecordHeaderError{}), KindTLS, StatusUnreachable, "does not speak TLS", false},
		{"unknown name", dial(&net.DNSError{Name: "mcp.exmaple"}), KindUnreachable, StatusUnreachable, `spelling of "mcp.exmaple"`, false},
		{"HTTP proxy refuses", dial(&session.ProxyError{Status: 403}), KindUnreachable, StatusUnreachable, "NO_PROXY", false},
		{"no answer in time", dial(context.DeadlineExceeded), KindTimeout, StatusUnreachable, "firewall", false},
		{"connection refused", dial(syscall.ECONNREFUSED), KindUnreachable, StatusUnreachable, "nothing listens", false},
		{"connection closed", dial(io.ErrUnexpectedEOF), KindUnreachable, StatusUnreachable, "connects again", false},
		{"network is down", dial(syscall.ENETDOWN), KindUnreachable, StatusUnreachable, "check the network", false},
		{"interrupted", context.Canceled, KindOther, StatusInterrupted, "", false},
		{"anything else", errors.New("disk\nfull"), KindOther, StatusFailed, "", false},
	}
}

// TestError shows one error of each row of the table, wrapped as it arrives from the libraries.
func TestError(t *testing.T) {
	for _, tt := range errorCases() {
		t.Run(tt.name, func(t *testing.T) {
			err := fmt.Errorf("while doing something: %w", tt.err)
			e := Error(err)
			hints := strings.Join(e.Hints, "\n")
			if e.Kind != tt.kind || e.Status != tt.status || !strings.Contains(hints, tt.hint) || (e.Final != nil) != tt.final {
				t.Errorf("got  %+v\nwant %+v", e, tt)
			}
			if e.Text == "" || strings.ContainsAny(e.Text, "\n\r") || strings.Contains(e.Text+hints, "s3cret") || strings.Contains(e.Text, "pw@") {
				t.Errorf("text %q, hints %q", e.Text, hints)
			}
			if o := e.Obstacle(); o.Kind != e.Kind || o.Text != e.Text || o.Final != e.Final {
				t.Errorf("obstacle %+v of %+v", o, e)
			}
		})
	}
}

// An error of the shared connection is explained as if this process had dialed.
func TestErrorOfSharedConnection(t *testing.T) {
	explained := 0
	for _, tt := range errorCases() {
		wire := sshtunnel.EncodeError(tt.err, nil)
		if wire.Type == "" {
			continue // an error of another library, which never travels
		}
		explained++
		for _, err := range []error{tt.err, fmt.Errorf("while doing something: %w", tt.err)} {
			line, jsonErr := json.Marshal(sshtunnel.EncodeError(err, []string{"bastion"}))
			if jsonErr != nil {
				t.Fatal(jsonErr)
			}
			var wire mux.Error
			if err := json.Unmarshal(line, &wire); err != nil {
				t.Fatal(err)
			}
			want, got := Error(err), Error(sshtunnel.DecodeError(&wire, []string{"bastion"}))
			if (want.Final == nil) != (got.Final == nil) {
				t.Errorf("%s: final %v, want %v", tt.name, got.Final, want.Final)
			}
			want.Final, got.Final = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: through %s\ngot  %+v\nwant %+v", tt.name, line, got, want)
			}
		}
	}
	if explained < 20 {
		t.Errorf("only %d errors of the tunnel", explained)
	}
}

// A request that ended in a sign-in was refused for lack of a token, whatever ended the sign-in.
func TestNotRun(t *testing.T) {
	for _, err := range []error{
		&asclient.SignInError{}, &asclient.DiscoveryError{}, &oauth.PortBusyError{}, &oauth.LoginRequiredError{}, &oauth.TokenRefusedError{},
		&asclient.DiscoveryError{Err: io.EOF},
	} {
		if !Error(err).NotRun {
			t.Errorf("%T: the request may be sent again", err)
		}
	}
	if Error(io.EOF).NotRun {
		t.Error("a request whose connection broke may have run")
	}
}
