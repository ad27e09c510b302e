package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"

	"sallyport/oauth"
	"sallyport/oauth/asclient"
	"sallyport/relay"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// Exit statuses, a contract with scripts.
const (
	statusDone        = 0
	statusFailed      = 1
	statusUsage       = 2
	statusHostKey     = 3
	statusSSHAuth     = 4
	statusSignIn      = 5
	statusUnreachable = 6
	statusInterrupted = 130
)

// Kinds of explanation.kind: what MCP hosts find in the data of an error, a contract too.
const (
	kindConfig      = "config"
	kindHostKey     = "host_key"
	kindSSHAuth     = "ssh_auth"
	kindSSHPerson   = "ssh_needs_person"
	kindSignIn      = relay.KindSignIn
	kindRefused     = "sign_in_refused"
	kindMetadata    = "oauth_metadata"
	kindUnreachable = "unreachable"
	kindForwarding  = "ssh_forwarding"
	kindTLS         = "tls"
	kindTimeout     = "timeout"
	kindPort        = "callback_port"
	kindOwner       = "callback_owner"
	kindOther       = "failed"
)

// explanation is an error in words for people, with what they can do about it.
type explanation struct {
	kind   string
	text   string // one line
	hints  []string
	status int
	final  error // waiting cannot mend it; nil: try again
	notRun bool  // a request that meets it was refused by the upstream for lack of a token
}

// obstacle is the explanation as the relay gives it to the MCP host.
func (e explanation) obstacle() *relay.Obstacle {
	return &relay.Obstacle{Kind: e.kind, Text: e.text, Hints: e.hints, Final: e.final}
}

// explain is the one table from an error's type to words, status, and whether the proxy goes on.
func explain(err error) explanation {
	e := classify(err)
	e.notRun = isLoginError(err) // whatever is beneath: a sign-in starts with the upstream's refusal
	if e.text == "" {
		e.text = oneLine(err.Error())
	}
	switch e.status {
	case statusUsage, statusHostKey:
		e.final = err
	}
	return e
}

func classify(err error) explanation {
	if e, ok := errors.AsType[*usageError](err); ok {
		return explanation{kind: kindConfig, text: e.text, hints: e.hints, status: statusUsage}
	}
	if e, ok := classifySSH(err); ok {
		return e
	}
	if e, ok := classifyLogin(err); ok {
		return e
	}
	if e, ok := errors.AsType[*portError](err); ok {
		return explanation{kind: kindPort, hints: portHints(e.addr), status: statusFailed}
	}
	if _, ok := errors.AsType[*unauthorizedError](err); ok {
		return explanation{kind: kindRefused, text: withoutQuery(err), status: statusSignIn, hints: []string{"check --header Authorization; without it, and without --grant none, sallyport signs in"}}
	}
	if e, ok := errors.AsType[*notKeptError](err); ok {
		return explanation{kind: kindOther, text: oneLine(e.Error()), status: statusFailed, hints: []string{"make room there, or name another place: --state-dir DIR; a running proxy does not see this sign-in"}}
	}
	if e, ok := errors.AsType[*ownerError](err); ok {
		return explanation{kind: kindOwner, hints: ownerHints(e), status: statusFailed}
	}
	return classifyNetwork(err)
}

// classifyNetwork explains what the operating system, DNS and TLS say of a connection.
func classifyNetwork(err error) explanation {
	unreachable := explanation{kind: kindUnreachable, text: withoutQuery(err), status: statusUnreachable}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		unreachable.kind = kindTLS
		unreachable.hints = []string{
			fmt.Sprintf("the certificate is for %s; the URL must name one of these", certificateNames(e.Certificate)),
			"behind a bastion use --via HOST with the upstream's real name, not a forwarded port",
		}
		return unreachable
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		unreachable.kind = kindTLS
		unreachable.hints = []string{"if your organisation has a certificate authority of its own: --ca-file FILE"}
		return unreachable
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		unreachable.kind = kindTLS
		unreachable.hints = []string{"the server's certificate is not valid; is the clock right?"}
		return unreachable
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		unreachable.kind = kindTLS
		unreachable.hints = []string{"the server does not speak TLS on this port; is the URL http, or the port another?"}
		return unreachable
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		unreachable.hints = []string{fmt.Sprintf("check the spelling of %q, and the network; if only a bastion knows the name: --via HOST", e.Name)}
		return unreachable
	}
	if _, ok := errors.AsType[*proxyError](err); ok {
		unreachable.hints = []string{"HTTPS_PROXY names the proxy; NO_PROXY excepts hosts from it; behind a bastion: --via HOST"}
		return unreachable
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		unreachable.kind = kindTimeout
		unreachable.hints = []string{"check the network; a firewall may drop the packets"}
		return unreachable
	case errors.Is(err, syscall.ECONNREFUSED):
		unreachable.hints = []string{"nothing listens at that address and port; is the server running, and the URL right?"}
		return unreachable
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		unreachable.text = "connection closed by the other side: " + unreachable.text
		unreachable.hints = []string{"the way to the upstream broke, or the upstream ended; sallyport connects anew"}
		return unreachable
	case isNetworkError(err):
		unreachable.hints = []string{"check the network; sallyport tries again"}
		return unreachable
	case errors.Is(err, context.Canceled):
		return explanation{kind: kindOther, text: "interrupted", status: statusInterrupted}
	}
	return explanation{kind: kindOther, text: withoutQuery(err), status: statusFailed}
}

func isNetworkError(err error) bool {
	_, op := errors.AsType[*net.OpError](err)
	_, inHTTP := errors.AsType[*url.Error](err)
	return op || inHTTP || isDialError(err)
}

func certificateNames(cert *x509.Certificate) string {
	names := cert.DNSNames
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host"
	}
	return strings.Join(names[:min(len(names), 4)], ", ")
}

// classifyLogin explains the sign-in's errors.
func classifyLogin(err error) (explanation, bool) {
	if e, ok := errors.AsType[*oauth.PortBusyError](err); ok {
		return explanation{kind: kindPort, text: oneLine(e.Error()), hints: portHints(e.Addr), status: statusFailed}, true
	}
	if _, ok := errors.AsType[*oauth.LoginRequiredError](err); ok {
		return explanation{kind: kindSignIn, text: oneLine(err.Error()), hints: []string{"sallyport login URL, in a terminal, with the same settings but OAUTH2_INTERACTIVE=true"}, status: statusSignIn}, true
	}
	if e, ok := errors.AsType[*oauth.TokenRefusedError](err); ok {
		return explanation{kind: kindRefused, text: oneLine(err.Error()), final: e, status: statusSignIn, hints: []string{
			"the server gave a token that the upstream refuses: check --scope, --resource and --audience with its operator",
			"sallyport logout URL forgets the token; then sign in again, with another account if you have one",
		}}, true
	}
	if e, ok := errors.AsType[*neighbourError](err); ok {
		return explanation{kind: kindMetadata, text: oneLine(err.Error()), status: statusSignIn, hints: []string{
			fmt.Sprintf("if %s is a login server that you trust, name it: OAUTH2_AUTHORIZATION_URL, OAUTH2_TOKEN_URL and --client-id", e.addr),
		}}, true
	}
	if isNetworkFault(err) {
		return explanation{}, false // what is beneath explains itself
	}
	if _, ok := errors.AsType[*asclient.DiscoveryError](err); ok {
		return explanation{kind: kindMetadata, text: oneLine(err.Error()), status: statusSignIn, hints: []string{
			"is this the URL of the MCP endpoint, with its path?",
			"a server without metadata needs OAUTH2_AUTHORIZATION_URL, OAUTH2_TOKEN_URL and --client-id",
		}}, true
	}
	e, ok := errors.AsType[*asclient.SignInError](err)
	if !ok {
		return explanation{}, false
	}
	out := explanation{kind: kindSignIn, text: oneLine(err.Error()), status: statusSignIn, hints: signInHints(e)}
	if e.Refused {
		out.kind, out.final = kindRefused, err
	}
	return out, true
}

// unauthorizedError says that the upstream refuses the credentials that the settings give, or wants
// some where they forbid a sign-in.
type unauthorizedError struct{ upstream string }

func (e *unauthorizedError) Error() string {
	return fmt.Sprintf("%s: status 401: it does not accept the request's credentials", e.upstream)
}

// isLoginError says that err came of a sign-in.
func isLoginError(err error) bool {
	_, signIn := errors.AsType[*asclient.SignInError](err)
	_, discovery := errors.AsType[*asclient.DiscoveryError](err)
	_, port := errors.AsType[*oauth.PortBusyError](err)
	_, required := errors.AsType[*oauth.LoginRequiredError](err)
	_, refused := errors.AsType[*oauth.TokenRefusedError](err)
	return signIn || discovery || port || required || refused
}

// isNetworkFault says that a sign-in failed because a server could not be reached.
func isNetworkFault(err error) bool {
	_, dns := errors.AsType[*net.DNSError](err)
	_, cert := errors.AsType[*tls.CertificateVerificationError](err)
	return isLoginError(err) && (dns || cert || isNetworkError(err))
}

func signInHints(e *asclient.SignInError) []string {
	switch {
	case errors.Is(e, oauth.ErrNotCompleted):
		return []string{"open the link that was shown; --callback-timeout gives more time", "is the browser on another machine? there, run: sallyport callback HOST"}
	case errors.Is(e, oauth.ErrHeldBack):
		return []string{"sallyport login URL, in a terminal, opens a login page at once; so does the tool sallyport_sign_in of the MCP host"}
	case e.Code == asclient.CodePKCE:
		return []string{"if the server is known to support PKCE with S256 and only omits it from its metadata: --pkce assume"}
	case e.Stage == asclient.StageExchange:
		return []string{"is the ID token of --id-token-file fresh, and --idp-client-id the client that it was issued to?"}
	case e.Code == "invalid_grant":
		return []string{
			"sallyport login URL, in a terminal, tries again",
			"with --assertion-file: is its JWT fresh, and its audience the authorization server's issuer?",
		}
	case e.Code == asclient.CodeNoClient:
		return []string{"the server registers no clients by itself: ask its operator for a client and give --client-id"}
	case e.Code == "access_denied":
		return []string{"the login was refused by you or by the server; sallyport login URL tries again"}
	case e.Code == "invalid_client" || e.Code == "unauthorized_client":
		return []string{"check --client-id, the client's secret and --auth-style; its registration must allow this grant"}
	case e.Code == "invalid_scope":
		return []string{"check --scope with the server's operator"}
	case e.Code == asclient.CodeResourceMismatch:
		return []string{"the server's metadata speaks of another URL; use that one, its real name, and --via HOST where it is behind a bastion"}
	case e.Code == asclient.CodeInsecureURL:
		return []string{"the server's metadata names a cleartext URL; --allow-insecure-http accepts it"}
	}
	return []string{"sallyport login URL, in a terminal, tries again"}
}

func portHints(addr string) []string {
	_, port, _ := net.SplitHostPort(addr)
	return []string{
		fmt.Sprintf("end the process that holds port %s, or choose ports that the client has registered: --callback-port N[,N] (callback: --port)", port),
	}
}

func ownerHints(e *ownerError) []string {
	switch {
	case e.err != nil:
		return []string{"carrying needs a shell on " + e.host + " with id, cat and /proc/net/tcp, or lsof"}
	case len(e.owners) == 0:
		return []string{fmt.Sprintf("start the login on %s first; is its callback port %d? (--port)", e.host, e.port)}
	}
	return []string{"another user listens there and would be handed your login; choose another port: --callback-port on the proxy, --port here"}
}

// withoutQuery words an error of net/http without the query of its URL, which may hold secrets.
func withoutQuery(err error) string {
	e, ok := errors.AsType[*url.Error](err)
	if !ok {
		return oneLine(err.Error())
	}
	where := e.URL
	if u, parseErr := url.Parse(e.URL); parseErr == nil {
		u.RawQuery, u.Fragment, u.User = "", "", nil
		where = u.String()
	}
	return oneLine(where + ": " + e.Err.Error())
}

const maxErrorText = 600 // bytes of an error on stderr or in an answer

// oneLine makes text fit one line of stderr.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	return text
}

// report writes err on stderr and returns the exit status.
func (a *app) report(err error) int {
	e := explain(err)
	if e.status == statusInterrupted {
		return e.status
	}
	a.reportLines(e.text, e.hints)
	return e.status
}

// reportLines writes one line and its hints on stderr, and to the log file.
func (a *app) reportLines(text string, hints []string) {
	a.fileLog.Warn(text, "hint", strings.Join(hints, "; "))
	var b strings.Builder
	fmt.Fprintf(&b, "sallyport: %s\n", text)
	for _, hint := range hints {
		fmt.Fprintf(&b, "hint: %s\n", oneLine(hint))
	}
	fmt.Fprint(a.err, b.String())
}

// classifySSH explains the tunnel's errors.
func classifySSH(err error) (explanation, bool) {
	out := explanation{text: oneLine(err.Error())}
	if e, ok := errors.AsType[*sshconfig.Error](err); ok {
		out.kind, out.status = kindConfig, statusUsage
		if e.File == "" {
			out.hints = []string{"check --via, -J and -o"}
		} else {
			out.hints = []string{"ssh -G HOST reads the same file and says what it makes of it"}
		}
		return out, true
	}
	if e, ok := errors.AsType[*hostkeys.Error](err); ok {
		out.kind, out.status = kindHostKey, statusHostKey
		out.hints = hostKeyHints(e)
		return out, true
	}
	if e, ok := errors.AsType[*sshtunnel.AuthError](err); ok {
		out.kind, out.status, out.final = kindSSHAuth, statusSSHAuth, err
		if e.NeedsPerson {
			out.kind, out.final = kindSSHPerson, nil
		}
		out.hints = authHints(e)
		return out, true
	}
	if e, ok := errors.AsType[*sshtunnel.OpenError](err); ok {
		out.kind, out.status, out.text = kindUnreachable, statusUnreachable, oneLine(e.Error())
		out.hints = []string{fmt.Sprintf("is the upstream running, and does %s resolve and reach it? ssh %s, then try it there", e.Hop, e.Hop)}
		if e.Prohibited() {
			out.kind = kindForwarding
			out.hints = []string{fmt.Sprintf("ask the administrator of %s to permit forwarding to %s, or use another --via HOST", e.Hop, cmp.Or(e.Addr, "there"))}
		}
		return out, true
	}
	if e, ok := errors.AsType[*sshtunnel.ListenError](err); ok {
		out.kind, out.status, out.text = kindPort, statusFailed, oneLine(e.Error())
		out.hints = []string{fmt.Sprintf("free the port on %s, or name others with --callback-port N[,N]; its sshd must permit remote forwards (AllowTcpForwarding)", e.Hop)}
		return out, true
	}
	if e, ok := errors.AsType[*sshtunnel.HopError](err); ok {
		out.kind, out.status, out.text = kindUnreachable, statusUnreachable, oneLine(e.Error())
		out.hints = hopHints(e)
		return out, true
	}
	return explanation{}, false
}

func hostKeyHints(e *hostkeys.Error) []string {
	switch {
	case e.Revoked:
		return []string{"do not connect; ask the administrator of " + e.Hop}
	case e.Changed:
		hints := []string{"somebody may be listening in, or the host was installed anew: ask its administrator for the new fingerprint"}
		if remedy := e.Remedy(); remedy != "" { // none for what KnownHostsCommand says
			hints = append(hints, "once it is the right one: "+remedy+" && ssh "+e.Hop)
		}
		return hints
	}
	return []string{
		"compare the fingerprint with what the administrator of " + e.Hop + " says, and accept it once in a terminal: " + e.Remedy(),
		"or in sallyport's own words: sallyport login --via HOST URL",
	}
}

func authHints(e *sshtunnel.AuthError) []string {
	switch {
	case e.TooMany:
		return []string{fmt.Sprintf("in ssh_config, under Host %s: IdentityFile with the right key, and IdentitiesOnly yes", e.Hop)}
	case e.NeedsPerson:
		return []string{
			"load the key into the agent: ssh-add",
			"or type the answer in a terminal: sallyport login --via HOST URL; for graphical questions set SSH_ASKPASS",
		}
	}
	return []string{fmt.Sprintf("ssh -v %s shows the same exchange; check User and IdentityFile, and ~/.ssh/authorized_keys there", e.Hop)}
}

func hopHints(e *sshtunnel.HopError) []string {
	if dns, ok := errors.AsType[*net.DNSError](e); ok {
		return []string{
			fmt.Sprintf("%q is no name that DNS knows; is it the alias of a Host block in ssh_config? check the spelling", dns.Name),
			"sallyport ssh-config " + e.Hop + " shows what the files say",
		}
	}
	switch {
	case errors.Is(e, syscall.ECONNREFUSED):
		return []string{"nothing listens there; check HostName and Port: sallyport ssh-config " + e.Hop}
	case e.Stage == sshtunnel.StageLink:
		return []string{"sallyport connects anew"}
	case e.Stage == sshtunnel.StageConnect:
		return []string{"check the network, and HostName, Port and ProxyJump: sallyport ssh-config " + e.Hop}
	}
	return []string{"ssh -v " + e.Hop + " shows the same exchange"}
}
