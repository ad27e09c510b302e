package session

import (
	"context"
	"log/slog"
	"path/filepath"
	"runtime"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/cmd/sallyport/internal/share"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/refusals"
	"sallyport/sshtunnel/sshconfig"
)

// SSH makes tunnels as the settings say. It may be used concurrently.
type SSH struct {
	// Settings are those of the person.
	Settings cli.SSH
	// Env is the environment of the process.
	Env environment.Environment
	// Ask puts a question of SSH to the person. If it is nil, nobody can be asked.
	Ask func(context.Context, sshtunnel.Question) (string, error)
	// Notice shows the person what a server says before it lets us in. If it is nil, only the
	// state of the tunnel has it.
	Notice func(sshtunnel.Notice)
	// StateDir is the directory in whose "logins" all processes agree on logins. If it is empty,
	// this process agrees with none.
	StateDir string
	// AtTerminal says that a person typed the command. A login that was refused is tried
	// again, and a ProxyCommand may use the terminal.
	AtTerminal bool
	// AgentMissing is set by Tunnel, if it is not nil. It then reports whether SSH_AUTH_SOCK is not
	// set, a hop would ask the agent, and none was found.
	AgentMissing *func() bool
	// Early is set by Tunnel, if it is not nil. It finds the process of the shared connection
	// before it is wanted, or starts it, if there is one to use. That process dials nothing yet.
	Early *func(context.Context)
	// Purpose is what the tunnels are for. The status of a shared connection shows it.
	Purpose string
	// SocketDirs are the directories of control sockets. Those of shared connections lie in them.
	SocketDirs []string
	// LogFile and LogLevel are the log of a shared connection that is started.
	LogFile, LogLevel string
	// Adjust changes the settings of a tunnel before it is made. It may be nil.
	Adjust func(*sshtunnel.Config)
	// Log must not be nil.
	Log *slog.Logger
}

// ssh returns what makes the tunnels of this session.
func (c *Config) ssh() SSH {
	stateDir := StateDir(c.Settings.Store, c.Env)
	if c.OnlyLooks { // the ledger of refused logins would make the directory
		stateDir = ""
	}
	return SSH{
		Settings: c.Settings.SSH, Env: c.Env, Ask: c.Ask, Notice: c.Notice,
		StateDir: stateDir, AtTerminal: c.AtTerminal, Log: c.Log,
		SocketDirs: c.SocketDirs, LogFile: c.LogFile, LogLevel: c.LogLevel, Adjust: c.Adjust,
	}
}

// Resolver returns what reads ssh_config as -F, -J and -o say. Each of its calls reads the files as
// they are then.
func (s SSH) Resolver() *sshconfig.Resolver {
	r := &sshconfig.Resolver{
		UserFile: environment.Under(s.Env.AccountHome, ".ssh", "config"), SystemFile: "/etc/ssh/ssh_config",
		Options: s.Settings.SSHOption, Jump: s.Settings.Jump,
		Home: s.Env.AccountHome, User: s.Env.User, Getenv: s.Env.Getenv, Log: s.Log,
	}
	if runtime.GOOS == "windows" {
		r.SystemFile = filepath.Join(s.Env.Getenv("ProgramData"), "ssh", "ssh_config")
	}
	// By ssh(1), the file of -F stands in place of both files, and the word none reads no file.
	switch s.Settings.SSHConfig {
	case "":
	case "none":
		r.UserFile, r.SystemFile = "", ""
	default:
		r.UserFile, r.SystemFile, r.UserFileRequired = s.Settings.SSHConfig, "", true
	}
	return r
}

// Tunnel returns a tunnel to destination that has not dialed yet, and its hops. It reads ssh_config
// now, so that a wrong configuration is reported at once. The caller must close the tunnel.
func (s SSH) Tunnel(ctx context.Context, destination string) (*sshtunnel.Tunnel, []*sshconfig.Host, error) {
	resolver := s.Resolver()
	hosts, err := resolver.Chain(ctx, destination)
	if err != nil {
		return nil, nil, err
	}
	agent := s.forgottenAgent()
	env := agent.environment()
	if s.AgentMissing != nil {
		*s.AgentMissing = agent.isMissing
	}
	// The tunnel resolves the chain again before each dial, so that it follows edits of the files.
	config := sshtunnel.Config{
		Chain: func(ctx context.Context) ([]*sshconfig.Host, error) {
			chain, err := resolver.Chain(ctx, destination)
			if err == nil {
				agent.look(ctx, chain)
			}
			return chain, err
		},
		Ask:           s.Ask,
		Notice:        s.Notice,
		Refusals:      s.refusals(),
		Insist:        s.AtTerminal,
		Getenv:        env.Getenv,
		Terminal:      s.AtTerminal,
		Log:           s.Log,
		ControlMaster: masterUses[s.Settings.ControlMaster],
		Shared:        s.shared(env),
		Purpose:       s.Purpose,

		SharedElsewhere: agent.elsewhere,
	}
	if s.Adjust != nil {
		s.Adjust(&config)
	}
	if s.Early != nil {
		*s.Early = func(ctx context.Context) {
			if config.Shared == nil {
				return
			}
			agent.look(ctx, hosts)
			if way, err := config.Shared(ctx, hosts); err == nil {
				way.Find(ctx) // the first request meets the error, too
			}
		}
	}
	tunnel, err := sshtunnel.New(config)
	if err != nil {
		return nil, nil, err
	}
	return tunnel, hosts, nil
}

// masterUses translates the setting.
var masterUses = map[cli.ControlMaster]sshtunnel.MasterUse{
	cli.ControlMasterOff:  sshtunnel.MasterNever,
	cli.ControlMasterAuto: sshtunnel.MasterAuto,
	cli.ControlMasterOn:   sshtunnel.MasterAlways,
}

// forgottenAgent returns what finds the agent if SSH_AUTH_SOCK is not set.
func (s SSH) forgottenAgent() *forgottenAgent {
	f := &forgottenAgent{env: s.Env, log: s.Log}
	if s.Settings.Share == "auto" {
		f.shares = s.sharesIn(s.Env)
	}
	return f
}

// shared returns what finds the connection that all processes of this user share. It is nil if the
// settings say that this process dials its own.
func (s SSH) shared(env environment.Environment) func(context.Context, []*sshconfig.Host) (mux.Way, error) {
	if s.Settings.Share != "auto" {
		return nil
	}
	return s.sharesIn(env).Shared
}

// Shares returns what finds the shared connections through a chain, whatever the settings say.
func (s SSH) Shares(ctx context.Context, chain []*sshconfig.Host) *share.Client {
	f := &forgottenAgent{env: s.Env, log: s.Log, shares: s.sharesIn(s.Env)}
	f.look(ctx, chain)
	return s.sharesIn(f.environment())
}

// sharesIn returns what finds shared connections in an environment.
func (s SSH) sharesIn(env environment.Environment) *share.Client {
	return share.NewClient(share.Config{
		Dirs: share.Dirs(s.SocketDirs), Env: env, IsOwn: cli.IsOwnVariable, AtTerminal: s.AtTerminal, Log: s.Log,
		Settings: share.Settings{
			ControlMaster: masterUses[s.Settings.ControlMaster], StateDir: s.StateDir,
			Idle: time.Duration(s.Settings.ShareIdle), Max: time.Duration(s.Settings.ShareMax),
			LogFile: s.LogFile, LogLevel: s.LogLevel,
		},
	})
}

// refusals returns what all processes of this user agree on logins by, or nil if there is no place
// for it.
func (s SSH) refusals() *refusals.Ledger {
	if s.StateDir == "" {
		return nil
	}
	ledger, err := refusals.Open(filepath.Join(s.StateDir, "logins"))
	if err != nil {
		s.Log.Warn("refused logins are not shared with other processes", "err", err)
		return nil
	}
	return ledger
}
