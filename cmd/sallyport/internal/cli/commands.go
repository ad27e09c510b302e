// Package cli is the grammar of the command line and its sources: flags, environment variables, the
// JSON file of settings, and defaults. [Parse] reads all of them once.
//
// Settings are grouped in small structs. A command embeds the groups that it accepts, and passes on
// those that it uses. The help of a flag says what its field means.
package cli

// grammar is the whole command line. Each flag names its environment variables in the tag `from`,
// and its field of the JSON file in the tag `field`. Without `from` the variable is SALLYPORT_ and
// the flag's name in capitals. A hidden flag is a setting of mcp-oauth2-proxy that has only a
// variable in sallyport's manual.
type grammar struct {
	defaultCommand
	Login     LoginCommand     `cmd:"" name:"login" help:"Sign in now, in the terminal, and store the tokens."`
	Logout    LogoutCommand    `cmd:"" name:"logout" help:"Revoke the tokens if the server can do that, and forget them and the client registration."`
	Status    StatusCommand    `cmd:"" name:"status" help:"Show what is stored (never a secret), which proxies run here, their tunnels, and the shared connections."`
	Callback  CallbackCommand  `cmd:"" name:"callback" help:"On the workstation: lend this machine's browser and loopback port to proxies on HOST."`
	SSHConfig SSHConfigCommand `cmd:"" name:"ssh-config" help:"Print the configuration resolved for HOST, as ssh -G does."`
	Share     ShareCommand     `cmd:"" name:"share" hidden:"" help:"Show or end the shared connections to bastions."`
	FarEnd    FarEndCommand    `cmd:"" name:"far-end" hidden:"" help:"Started by itself over SSH: brings the logins of one machine to the browser of another."`
	Version   VersionCommand   `cmd:"" name:"version" help:"Print the version."`
}

// defaultCommand is the part of the grammar that a proxy needs.
type defaultCommand struct {
	Proxy ProxyCommand `cmd:"" name:"proxy" default:"withargs" help:"Carry an MCP session between stdio and URL (the default command)."`
}

// ProxyCommand is `sallyport [flags] [URL]`, the default command.
type ProxyCommand struct {
	Remote
	Relay `group:"upstream"`
	Common
}

// LoginCommand is `sallyport login`. It accepts the flags of the relay and ignores them, so that
// the proxy's command line serves it unchanged.
type LoginCommand struct {
	Remote
	Relay `group:"upstream"`
	Common
}

// LogoutCommand is `sallyport logout`. It accepts the flags of the relay and ignores them, as login
// does.
type LogoutCommand struct {
	All bool `help:"Forget every upstream's tokens and registrations, without asking the servers to revoke them." from:"-"`
	Remote
	Relay `group:"upstream"`
	Common
}

// StatusCommand is `sallyport status`.
type StatusCommand struct {
	JSON  bool `name:"json" help:"Print JSON." from:"-"`
	Store `group:"files"`
	Common
}

// CallbackCommand is `sallyport callback`.
type CallbackCommand struct {
	Port    Ports    `help:"Port to carry to the same port of HOST, for tools that know nothing of sallyport (mcp-remote, claude, codex, gcloud); several are separated by commas." field:"callback.port" placeholder:"N[,N]"`
	Trust   []string `sep:"none" placeholder:"HOST" help:"Open the login pages of HOST without asking first; may be repeated." field:"callback.trust"`
	Browser `group:"callback"`
	SSH     `group:"ssh"`
	Store   `group:"files"`
	Common
	Host []string `arg:"" help:"Machine where you sign in: an alias of ssh_config, [user@]host[:port] or ssh://."`
}

// SSHConfigCommand is `sallyport ssh-config`.
type SSHConfigCommand struct {
	SSH `group:"ssh"`
	Common
	Host string `arg:"" help:"An alias of ssh_config, [user@]host[:port] or ssh://."`
}

// ShareCommand is `sallyport share`.
type ShareCommand struct {
	Stop  bool `help:"End the shared connections to HOST, or all of yours on this machine." from:"-"`
	SSH   `group:"ssh"`
	Store `group:"files"`
	Common
	Host string `arg:"" optional:"" help:"An alias of ssh_config, [user@]host[:port] or ssh://; without it, all."`
}

// FarEndCommand is `sallyport far-end`, which a sallyport on another machine starts over SSH.
// Nobody types it.
type FarEndCommand struct {
	Join  bool `hidden:"" help:"Bring one login, from stdin, to the browser of this machine." from:"-"`
	Store `group:"files"`
	Common
}

// VersionCommand is `sallyport version`.
type VersionCommand struct{}
