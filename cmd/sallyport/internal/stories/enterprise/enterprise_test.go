//go:build linux

// The stories of people whose company has one sign-in for everything (MCP's Enterprise-Managed
// Authorization): they sign in at the identity provider once, and every upstream that takes its
// assertions follows. Real: oidc-provider twice, once with token exchange and once with the grant
// jwt-bearer, each added by its own means, and Chromium.
package enterprise_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) { machines.Main(m) }

// The client at the identity provider, and the one that the authorization server of the MCP servers
// knows.
const (
	clientAtIDP = "sallyport-of-the-company"
	secretAtIDP = "secret at the provider: 100%+/&"
	clientAtAS  = "sallyport-of-the-server"
	secretAtAS  = "secret at the server"
)

// Grants, and lines of a server's log.
const (
	exchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	signedIn  = `POST /token 200 authorization_code`
	refreshed = `POST /token 200 refresh_token`
	exchanged = `POST /token 200 ` + exchange
	redeemed  = `POST /token 200 ` + jwtBearer
)

// company is an identity provider, an authorization server that trusts it, and two upstreams.
type company struct {
	ca      *machines.Authority
	idp, as *machines.OIDC
	gates   []*machines.Gate
	home    string
	// browser counts its starts in the file pages.
	browser, pages string
}

// options change what a company is like.
type options struct {
	accessTTL, idTokenTTL time.Duration
	// exchanges and trusts are false for servers that know nothing of enterprise_managed.
	exchanges, trusts bool
}

func newCompany(t *testing.T, o options) *company {
	t.Helper()
	c := &company{ca: machines.NewAuthority(t), home: t.TempDir()}
	basic := func(id, secret, grant string) map[string]any {
		return map[string]any{"client_id": id, "client_secret": secret, "token_endpoint_auth_method": "client_secret_basic",
			"grant_types": []string{grant}, "redirect_uris": []string{}, "response_types": []string{}}
	}
	person := basic(clientAtIDP, secretAtIDP, "authorization_code")
	person["redirect_uris"], person["response_types"] = []string{"http://127.0.0.1/callback"}, []string{"code"}
	grants := []string{"authorization_code", "refresh_token"}
	provider := map[string]any{}
	if o.idTokenTTL != 0 {
		provider["idTokenTTL"] = int(o.idTokenTTL.Seconds())
	}
	if o.exchanges {
		provider["exchanges"] = clientAtAS
		grants = append(grants, exchange)
	}
	person["grant_types"] = grants
	c.idp = machines.StartOIDC(t, machines.OIDCOptions{Clients: []map[string]any{person}, Extension: provider})
	server, client := map[string]any{}, basic(clientAtAS, secretAtAS, "client_credentials")
	if o.trusts {
		server["trusts"] = c.idp.Issuer
		client["grant_types"] = []string{jwtBearer}
	}
	c.as = machines.StartOIDC(t, machines.OIDCOptions{Clients: []map[string]any{client}, AccessTokenTTL: o.accessTTL, Extension: server})
	for range 2 {
		c.gates = append(c.gates, machines.StartGate(t, machines.GateOptions{CA: c.ca, OIDC: c.as, Upstream: machines.StartMCP(t, nil)}))
	}
	c.browser, c.pages = machines.CountingBrowser(t, machines.Person{TrustsAll: true}.BrowserScript(t))
	return c
}

// command is the real command with the settings of the company.
func (c *company) command(t *testing.T, upstream int, args ...string) *exec.Cmd {
	t.Helper()
	cmd := machines.Command(t, c.home, append(args, "--grant", "enterprise_managed", "--client-id", clientAtAS,
		"--idp-issuer", c.idp.Issuer, "--idp-client-id", clientAtIDP, "--callback-port", "0", c.gates[upstream].URL)...)
	cmd.Env = append(cmd.Env, "SALLYPORT_CA_FILE="+c.ca.File, "LOG_LEVEL=debug", "OAUTH2_CLIENT_SECRET="+secretAtAS,
		"SALLYPORT_IDP_CLIENT_SECRET="+secretAtIDP)
	return cmd
}

// run runs a command and returns it when it has ended with the status.
func (c *company) run(t *testing.T, cmd *exec.Cmd, status int) *machines.Process {
	t.Helper()
	p := machines.StartProcess(t, cmd)
	if got := p.Wait(t); got != status {
		t.Fatalf("%q: status %d, want %d", cmd.Args, got, status)
	}
	return p
}

// status returns what `sallyport status` prints.
func (c *company) status(t *testing.T, args ...string) string {
	t.Helper()
	cmd := machines.Command(t, c.home, append([]string{"status"}, args...)...)
	text := c.run(t, cmd, machines.StatusDone).Out.String()
	for _, secret := range machines.ProviderTokens(t, c.home) {
		if strings.Contains(text, secret) {
			t.Errorf("a token is shown in %s", text)
		}
	}
	return text
}

// pagesOpened is how many browser pages were opened.
func (c *company) pagesOpened(t *testing.T) int {
	t.Helper()
	return strings.Count(machines.ReadFile(t, c.pages), "page\n")
}

// post makes a request of the client at the identity provider and returns the status.
func (c *company) post(t *testing.T, path string, form url.Values) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.idp.Issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(clientAtIDP), url.QueryEscape(secretAtIDP))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// Proxies of two upstreams start at once: one page. Later starts are silent. `sallyport status`
// tells of the sign-in, and `sallyport logout` ends it at the identity provider.
func TestOneSignInForAllUpstreams(t *testing.T) {
	t.Parallel()
	c := newCompany(t, options{exchanges: true, trusts: true})
	var hosts []*machines.Host
	for i := range 6 {
		hosts = append(hosts, machines.StartHost(t, c.command(t, i%2, "--browser", c.browser), nil))
	}
	c.as.Log.Await(t, redeemed) // a call that waits for the person for longer than 25 s is answered with the URL
	machines.EchoAll(t, hosts...)
	if got := c.pagesOpened(t); got != 1 || c.idp.Asked(signedIn) != 1 {
		t.Errorf("%d pages and %d logins, want one", got, c.idp.Asked(signedIn))
	}
	for i := range 2 {
		again := machines.EchoOnce(t, c.command(t, i, "--browser", "/bin/false"))
		if strings.Contains(again.Stderr.String(), "open this link") {
			t.Errorf("the next start asked again:\n%s", again.Stderr)
		}
	}
	if got := c.idp.Asked(exchanged); got != 8 || c.as.Asked(redeemed) != 8 {
		t.Errorf("%d exchanges and %d assertions, want 8: one for each process", got, c.as.Asked(redeemed))
	}
	c.checkStatus(t)
	c.checkLogout(t)
}

// checkStatus looks at what `sallyport status` tells of the sign-in that both upstreams use.
func (c *company) checkStatus(t *testing.T) {
	t.Helper()
	people := c.status(t)
	urls := []string{c.gates[0].URL, c.gates[1].URL}
	for _, want := range []string{
		`(?m)^` + regexp.QuoteMeta(c.idp.Issuer) + ` \(identity provider\)$`, `(?m)^  account  ada$`, `(?m)^  profile  default$`,
		`(?m)^  used by  .*` + regexp.QuoteMeta(urls[0]), `(?m)^  used by  .*` + regexp.QuoteMeta(urls[1]),
		`(?m)^  ID token until .*, then renewed by itself$`,
	} {
		if !regexp.MustCompile(want).MatchString(people) {
			t.Errorf("no %q in:\n%s", want, people)
		}
	}
	var report struct {
		Accounts []struct {
			Upstream         string
			IdentityProvider bool     `json:"identity_provider"`
			UsedBy           []string `json:"used_by"`
			Account, Expiry  string
			Refreshable      bool
		}
	}
	text := c.status(t, "--json")
	if err := json.Unmarshal([]byte(text), &report); err != nil || len(report.Accounts) != 1 {
		t.Fatalf("%v in %s, want one account", err, text)
	}
	a := report.Accounts[0]
	if a.Upstream != c.idp.Issuer || !a.IdentityProvider || len(a.UsedBy) != 2 || a.Account != "ada" || a.Expiry == "" || !a.Refreshable {
		t.Errorf("got %+v", a)
	}
}

// checkLogout signs out of one upstream. The other one asks for a new sign-in too, and the person
// is told.
func (c *company) checkLogout(t *testing.T) {
	t.Helper()
	refresh := machines.ProviderTokens(t, c.home)[1]
	logout := c.run(t, c.command(t, 0, "logout"), machines.StatusDone)
	logout.Err.Await(t, regexp.QuoteMeta("signed out of the identity provider "+c.idp.Issuer))
	logout.Err.Await(t, regexp.QuoteMeta(c.gates[1].URL+" used that sign-in too"))
	if got := c.idp.Asked(`POST /token/revocation 200 `); got != 1 {
		t.Errorf("%d revocations, want 1", got)
	}
	if got := c.post(t, "/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}); got != http.StatusBadRequest {
		t.Errorf("the provider answers the revoked refresh token with %d", got)
	}
	for i := range 2 {
		c.run(t, c.command(t, i, "login", "--no-browser", "--callback-timeout", "1s"), machines.StatusSignIn)
	}
}

// The ID token expires: it is refreshed. The session is ended at the identity provider: one page.
func TestIDTokenExpiresAndSessionEnds(t *testing.T) {
	t.Parallel()
	c := newCompany(t, options{exchanges: true, trusts: true, accessTTL: 2 * time.Second, idTokenTTL: 3 * time.Second})
	host := machines.StartHost(t, c.command(t, 0, "--browser", c.browser), nil)
	c.as.Log.Await(t, redeemed)
	machines.Poll(t, func() bool {
		host.Echo(t)
		return c.idp.Asked(refreshed) >= 2
	}, "two refreshes")
	if got := c.pagesOpened(t); got != 1 {
		t.Errorf("%d pages, want one", got)
	}
	if got := c.idp.Asked(`POST /token 4\d\d .*`); got != 0 {
		t.Errorf("the provider refused %d requests", got)
	}
	refresh := machines.ProviderTokens(t, c.home)[1]
	if got := c.post(t, "/token/revocation", url.Values{"token": {refresh}}); got != http.StatusOK {
		t.Fatalf("revocation: status %d", got)
	}
	machines.Poll(t, func() bool {
		host.EchoError(t) // which is the URL, if the person takes their time
		return c.idp.Asked(signedIn) == 2
	}, "a second login")
	machines.Poll(t, func() bool { return host.EchoError(t) == nil }, "the upstream after the second login")
	if got := c.pagesOpened(t); got != 2 {
		t.Errorf("%d pages, want two", got)
	}
	host.Close(t)
}

// A person signs in at the terminal, and the proxies of both upstreams need nothing more.
func TestLoginInATerminal(t *testing.T) {
	t.Parallel()
	c := newCompany(t, options{exchanges: true, trusts: true})
	nobody := c.command(t, 0, "login")
	nobody.Env = append(nobody.Env, "OAUTH2_INTERACTIVE=false")
	p := c.run(t, nobody, machines.StatusSignIn)
	machines.CheckExplained(t, p.Err.String(), `login needed for `+regexp.QuoteMeta(c.gates[0].URL), `sallyport login`)
	c.run(t, c.command(t, 0, "login", "--browser", c.browser), machines.StatusDone).Err.Await(t, "signed in to "+regexp.QuoteMeta(c.gates[0].URL))
	for i := range 2 {
		machines.EchoOnce(t, c.command(t, i, "--browser", "/bin/false"))
	}
	c.run(t, c.command(t, 1, "login", "--browser", "/bin/false"), machines.StatusDone)
	if got := c.pagesOpened(t); got != 1 {
		t.Errorf("%d pages, want one", got)
	}
}

// A server on the way knows nothing of enterprise_managed: the error names it and the stage.
func TestServersWithoutEnterpriseManaged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		options
		text string // of the error, where IDP and AS stand for the issuers
		hint string
	}{
		{"the provider exchanges nothing", options{trusts: true}, `identity provider: sign-in at IDP/token: exchange: .*unsupported_grant_type`, `ID-JAG`},
		{"the server takes no assertions", options{exchanges: true}, `sign-in at AS/token: token: .*\(status 400\)`, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCompany(t, tt.options)
			p := c.run(t, c.command(t, 0, "login", "--browser", c.browser), machines.StatusSignIn)
			text := strings.NewReplacer("IDP", regexp.QuoteMeta(c.idp.Issuer), "AS", regexp.QuoteMeta(c.as.Issuer)).Replace(tt.text)
			machines.CheckExplained(t, p.Err.String(), text, tt.hint)
			if got := c.pagesOpened(t); got != 1 {
				t.Errorf("%d pages, want one", got)
			}
		})
	}
}
