//go:build linux

package leaks_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
	"sallyport/oauth/oauthtest"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

func init() { machines.Role("dial", playDial) }

// playDial is a ProxyCommand: stdin and stdout are those of a TCP connection.
func playDial(config []byte) error {
	var addr string
	if err := json.Unmarshal(config, &addr); err != nil {
		return err
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	go io.Copy(conn, os.Stdin) // ends with the process
	_, err = io.Copy(os.Stdout, conn)
	return err
}

// throughSSH has every program started that ssh_config and the environment can name.
func (v *vault) throughSSH(t *testing.T) {
	server := machines.StartSSHD(t, machines.SSHDOptions{})
	passphrase := v.Secrets.Add("a passphrase", "open-s3same")
	hop := machines.Hop{Alias: "bastion", SSHD: server, Config: []string{
		"ProxyCommand " + v.Child(t, "proxycommand", machines.RoleCommand(t, "dial", server.Addr)),
		"KnownHostsCommand " + v.Child(t, "knownhosts", ":"),
		"IdentityFile " + machines.EncryptKey(t, server.IdentityFile, passphrase),
	}}
	matching := "Match exec " + v.Child(t, "matchexec", ":") + "\n  ServerAliveInterval 30\n" +
		machines.ReadFile(t, machines.WriteSSHConfig(t, hop))
	config := machines.WriteFile(t, machines.OpenDir(t), "config", matching, 0o600)
	env := []string{
		"TEST_API_KEY=" + v.Secrets.Add("a header", "k3y-of-a-header"),
		"SALLYPORT_HEADER=X-Password: " + v.Secrets.Add("a header", "passw0rd-of-a-header"),
		"SSH_ASKPASS=" + v.Child(t, "askpass", "echo "+passphrase), "SSH_ASKPASS_REQUIRE=force",
	}
	args := v.signsIn("-F", config, "--via", "bastion", "--header", "X-Api-Key: ${TEST_API_KEY}")
	v.session(t, v.Command(env, args...)) // by code
	v.AS.RevokeAccess()
	v.session(t, v.Command(env, args...)) // by refresh
}

// services show their own credentials, of each kind.
func (v *vault) services(t *testing.T) {
	secretFile := machines.WriteFile(t, machines.OpenDir(t), "secret", clientSecret+"\n", 0o600)
	v.session(t, v.Command([]string{"OAUTH2_CLIENT_SECRET=" + clientSecret}, "--grant", "client_credentials",
		"--client-id", "machine"))

	const assertion = "a-jwt.of-a.workload"
	v.AS.AddAssertion(assertion)
	assertionFile := machines.WriteFile(t, machines.OpenDir(t), "assertion", assertion+"\n", 0o600)
	v.session(t, v.Command(nil, "--grant", "jwt_bearer", "--client-id", "machine", "--client-secret-file", secretFile,
		"--assertion-file", assertionFile))

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := machines.PEM("PRIVATE KEY", der)
	v.Secrets.Add("a private key", strings.Split(text, "\n")[1])
	v.AS.AddClient(oauthtest.Client{ID: "robot", Key: &jose.JSONWebKey{Key: private.Public()}})
	v.session(t, v.Command(nil, "--grant", "client_credentials", "--client-id", "robot",
		"--client-key", machines.WriteFile(t, machines.OpenDir(t), "key", text, 0o600)))
}

// enterprise exchanges an identity provider's token, once well, once in vain.
func (v *vault) enterprise(t *testing.T) {
	var idp *oauthtest.Server
	origin := machines.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { idp.ServeHTTP(w, r) }))
	idp = oauthtest.New(origin, v.Upstream)
	idp.Takes = v.AS // whose secret the assertion is from then on
	const idToken = "an-id.token-of.ada"
	idp.AddAssertion(v.Secrets.Add("an ID token", idToken))
	args := []string{
		"--grant", "enterprise_managed", "--idp-issuer", idp.Issuer, "--idp-client-id", "us", "--client-id", "machine",
		"--client-secret-file",
		machines.WriteFile(t, machines.OpenDir(t), "secret", clientSecret+"\n", 0o600),
		"--id-token-file", machines.WriteFile(t, machines.OpenDir(t), "token", idToken+"\n", 0o600),
	}
	v.session(t, v.Command(nil, args...))
	idp.ForgetAssertions()
	v.refused(t, v.Command(nil, args...))
}

// givenOnce starts with a code, and with a refresh token, that somebody else got.
func (v *vault) givenOnce(t *testing.T) {
	code, verifier := v.grantByHand(t)
	given := []string{"OAUTH2_CLIENT_ID=given", "OAUTH2_INTERACTIVE=false", "OAUTH2_REDIRECT_URI=" + redirect}
	withCode := append(given, "OAUTH2_AUTHORIZATION_CODE="+code, "OAUTH2_CODE_VERIFIER="+verifier)
	v.session(t, v.Command(withCode, "--profile", "code"))
	withRefresh := append(given[:len(given):len(given)], "OAUTH2_REFRESH_TOKEN="+v.refreshByHand(t))
	v.session(t, v.Command(withRefresh, "--profile", "refresh"))
	if status := v.run(t, v.Command(withCode, "login", "--profile", "again")); status != machines.StatusSignIn {
		t.Errorf("a spent code: status %d", status)
	}
}

// grantByHand authorizes the client "given" as a browser does and returns its code and verifier.
func (v *vault) grantByHand(t *testing.T) (code, verifier string) {
	t.Helper()
	verifier = v.Secrets.Add("a verifier", oauth2.GenerateVerifier())
	q := url.Values{
		"response_type": {"code"}, "client_id": {"given"}, "redirect_uri": {redirect}, "state": {"by-hand"},
		"resource":       {v.Upstream},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v.AS.Issuer+"/authorize?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	return back.Query().Get("code"), verifier
}

// refreshByHand spends such a code for a refresh token.
func (v *vault) refreshByHand(t *testing.T) string {
	t.Helper()
	code, verifier := v.grantByHand(t)
	resp, err := http.PostForm(v.AS.Issuer+"/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier},
		"redirect_uri": {redirect}, "client_id": {"given"}, "resource": {v.Upstream},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Refresh == "" {
		t.Fatalf("no refresh token: %v", err)
	}
	return answer.Refresh
}

// callbackCommand carries a callback from a workstation to a remote machine, both networks of their
// own.
func (v *vault) callbackCommand(t *testing.T) {
	remote, workstation := machines.NewNamespace(t), machines.NewNamespace(t, "workstation")
	server := machines.StartSSHD(t, machines.SSHDOptions{NS: remote})
	for _, origin := range []string{v.AS.Issuer, v.Upstream} {
		host := machines.ParseURL(t, origin).Host
		remote.Borrow(t, host)
		workstation.Borrow(t, host)
	}
	workstation.Borrow(t, server.Addr)
	config := machines.WriteSSHConfig(t, machines.Hop{Alias: "remote", SSHD: server})
	callback := machines.StartProcess(t, v.Prepare(workstation.Command(t, machines.Sallyport(t), "callback", "-F", config,
		"--trust", "remote", "--no-browser", "remote"), []string{"HOME=" + t.TempDir()}))
	callback.Err.Await(t, "remote: ready")
	login := machines.StartProcess(t, v.Prepare(remote.Command(t, machines.Sallyport(t), "login", "--no-browser",
		"--token-store", "memory", v.Upstream), nil))
	link := login.Err.Await(t, machines.Offered)[1]
	callback.Err.Await(t, "remote wants to sign in")
	machines.Curl(t, workstation, "-L", link)
	if status := login.Wait(t); status != machines.StatusDone {
		t.Errorf("login: status %d", status)
	}
	callback.Signal(t, syscall.SIGINT)
	callback.Wait(t)
	v.keepStderr(t, login.Err.String())
	v.Secrets.Keep(t.Name()+": stderr of callback", callback.Err.String())
}
