// Package session turns settings into everything that lies between the MCP host and one upstream:
// the tunnels, the routes, the sign-in and the token store. It introduces the three libraries to
// each other, and nothing here touches the network before it is asked to.
package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/helper"
	"sallyport/oauth"
	"sallyport/sshtunnel"
)

// Config describes a session.
type Config struct {
	// Settings are those of the person.
	Settings cli.Remote
	// Env is the environment of the process.
	Env environment.Environment
	// Ask puts a question of SSH to the person. If it is nil, nobody can be asked.
	Ask func(context.Context, sshtunnel.Question) (string, error)
	// Notice shows the person what an SSH server says before it lets us in. If it is nil, only the
	// state of the tunnel has it.
	Notice func(sshtunnel.Notice)
	// Logins says how logins come to the person.
	Logins Logins
	// Explain words an error in one line, for the page on another machine.
	Explain func(error) string
	// Report tells the person of an error that ends nothing.
	Report func(error)
	// Printable returns text as a page in the browser may show it.
	Printable func(text string) string
	// AtTerminal says that a person typed the command and waits for it.
	AtTerminal bool
	// SocketDirs are the directories of control sockets. Those of shared connections lie in them.
	SocketDirs []string
	// LogFile and LogLevel are the log of a shared connection that is started.
	LogFile, LogLevel string
	// Adjust changes the settings of each tunnel before it is made. It may be nil.
	Adjust func(*sshtunnel.Config)
	// OnlyLooks opens the token store for reading alone. A store that cannot be read then counts as
	// empty; LookAtStore says why.
	OnlyLooks bool
	// Log must not be nil.
	Log *slog.Logger
}

// Logins says how logins come to the person.
type Logins struct {
	// Offer returns what shows the logins of a session to the person. The Upstream of the session
	// is known when it is called.
	Offer func(*Session) Offer
	// Exit returns what makes connections for the browser of a helper, to login servers that only
	// this machine reaches. It may be nil.
	Exit func(*Session) helper.DialFunc
	// BrowserElsewhere says that the person's browser may be on another machine. Then logins offer
	// a device code beside their link, as long as no helper has them.
	BrowserElsewhere bool
}

// Offer shows a login to the person until the context ends. The function lend shows the login to
// the helpers until then, and tells what they show: once at the beginning, and after each change.
type Offer func(ctx context.Context, p oauth.Prompt, lend func(report func(helper.Shown)))

// Session is all that lies between the MCP host and one upstream. Its methods may be called
// concurrently, except for Close. The caller must Close it.
type Session struct {
	// Upstream is the URL of the MCP endpoint.
	Upstream *url.URL
	// Header holds the extra headers of requests to it.
	Header http.Header
	// Via is the SSH host in front of the upstream, as the person named it. It is empty if requests
	// leave directly.
	Via string
	// Tunnel leads to Via. It is nil without one.
	Tunnel *sshtunnel.Tunnel
	// Hops are the hosts that the tunnels pass.
	Hops Hops
	// Realm names the profile and the route, for what is kept for each.
	Realm Realm
	// CallbackTunnel leads to the workstation of --callback-via. It is nil without one.
	CallbackTunnel *sshtunnel.Tunnel
	// Logins shows the logins of SignIn to helpers. It is nil if the callback comes to a redirect
	// URI that is not on loopback.
	Logins *helper.Logins
	tunnelUse
	// SignIn sends requests, and signs in if the upstream asks for that.
	SignIn *oauth.Transport

	// Parts is what the session was made from, for a look at single steps.
	Parts Parts

	// workstation is that of --callback-via. It is nil without one.
	workstation *workstation
	// key names this upstream and account in the store.
	key string
	masked
	// closers end the parts, in the order in which the parts were built.
	closers []func() error
}

// tunnelUse is what else there is to the tunnel of a session. Without a tunnel, it is empty.
type tunnelUse struct {
	// AgentMissing reports whether SSH_AUTH_SOCK is not set, a hop to Via would ask the agent, and
	// none was found in the last attempt to dial.
	AgentMissing func() bool
	// Early finds the process of the shared connection to Via before it is wanted, or starts it, if
	// there is one to use. It dials nothing.
	Early func(context.Context)
}

// masked is what Mask takes secrets from, besides the sign-in.
type masked struct {
	// cookies are those of the upstream.
	cookies *cookieJar
	// secrets are those of the settings.
	secrets []string
}

// Open checks the settings and builds the parts, without touching the network. The context bounds
// the commands of Match exec in ssh_config, and nothing later. The error is a *cli.UsageError or an
// *sshconfig.Error, or it comes from the token store's files.
func Open(ctx context.Context, cfg Config) (*Session, error) {
	s := &Session{Via: cfg.Settings.Via, Parts: Parts{ssh: cfg.ssh()}}
	if err := s.open(ctx, cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open fills s. Close ends what it built before an error.
func (s *Session) open(ctx context.Context, cfg Config) (err error) {
	if s.Upstream, err = Endpoint(cfg.Settings.Upstream); err != nil {
		return err
	}
	if s.Header, s.secrets, err = headers(cfg.Settings.Upstream, cfg.Env); err != nil {
		return err
	}
	routes, err := s.openRoutes(ctx, cfg)
	if err != nil {
		return err
	}
	listen, err := s.openCallback(ctx, cfg)
	if err != nil {
		return err
	}
	config, err := signInConfig(cfg, s.Upstream, s.Header)
	if err != nil {
		return err
	}
	if config.IDP, err = identityProvider(cfg.Settings.OAuth); err != nil {
		return err
	}
	config.Offer = offerBy(s, cfg.Logins.Offer(s))
	if cfg.Logins.BrowserElsewhere {
		config.CodeBeside = s.codeBeside
	}
	s.Realm = routes.realm
	config.Realm, config.Base, config.AuthBase, config.Callback.Listen = routes.realm.String(), routes.upstream, routes.signIn, listen
	config.MayOpen, config.Remark = routes.mayOpen, newRemark(cfg.Settings)
	// The errors of New are contradictions between settings.
	if s.SignIn, err = oauth.New(config); err != nil {
		return &cli.UsageError{Text: err.Error(), Hints: []string{"sallyport --help lists the sign-in flags"}}
	}
	s.closers = append(s.closers, s.SignIn.Close)
	s.Parts.signIn, s.key = config, config.Key()
	return nil
}

// Connect brings the tunnels up and returns the first failure. Commands that a person waits for
// call it, because they end with a failure. The proxy dials on demand, and tries again. A
// workstation of --callback-via that is away is no failure: the person is told, and there are other
// ways to bring a callback here.
func (s *Session) Connect(ctx context.Context) error {
	if s.Tunnel != nil {
		if err := s.Tunnel.Connect(ctx); err != nil {
			return err
		}
	}
	if s.workstation != nil {
		return s.workstation.connect(ctx)
	}
	return nil
}

// Load returns what Save stored under name for this upstream. It returns nil if nothing was stored,
// as with --token-store memory.
func (s *Session) Load(name string) ([]byte, error) {
	if s.Parts.signIn.Store == nil {
		return nil, nil
	}
	return s.Parts.signIn.Store.Load(s.key + "/" + name)
}

// Save stores b under name for the next session with this upstream, until a logout.
func (s *Session) Save(name string, b []byte) error {
	if s.Parts.signIn.Store == nil {
		return nil
	}
	return s.Parts.signIn.Store.Save(s.key+"/"+name, b)
}

// Update replaces what is stored under name by what change returns of it, while no other process
// does so. The error says why the new value is in memory only. Without a store nothing is kept.
func (s *Session) Update(name string, change func(old []byte) []byte) error {
	store := s.Parts.signIn.Store
	if store == nil {
		change(nil)
		return errNoStore
	}
	name = s.key + "/" + name
	ctx, cancel := context.WithTimeout(context.Background(), updateWait)
	defer cancel()
	lock := store.Lock(name)
	if lock.Wait(ctx) == nil { // a process that hangs keeps nobody from working
		defer lock.Unlock()
	}
	old, err := store.Load(name)
	if err != nil {
		return err
	}
	if b := change(old); !bytes.Equal(b, old) {
		return errors.Join(store.Save(name, b), store.Unsaved(name))
	}
	return nil
}

// updateWait is how long Update waits for another process.
const updateWait = 2 * time.Second

// errNoStore says why nothing is kept.
var errNoStore = errors.New("--token-store memory keeps nothing")

// IsStored reports whether the store has an account with these settings.
func (s *Session) IsStored() (bool, error) {
	if s.Parts.signIn.Store == nil {
		return false, nil
	}
	value, err := s.Parts.signIn.Store.Load(s.key)
	return value != nil, err
}

// Mask replaces every secret in use in text, also where it is encoded: those of the settings, the
// tokens and codes of the sign-in, and long cookies. Text of the upstream passes through it before
// the MCP host gets it.
func (s *Session) Mask(text string) string {
	return oauth.Mask(text, slices.Concat(s.SignIn.Secrets(), s.secrets, s.cookies.secrets()))
}

// Close ends everything, the part that was built last first: the sign-in sends its requests through
// the tunnels. It returns the errors of all parts.
func (s *Session) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}
