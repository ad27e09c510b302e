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
	Login  LoginCommand  `cmd:"" name:"login" help:"Sign in now, in the terminal, and store the tokens."`
	Logout LogoutCommand `cmd:"" name:"logout" help:"Revoke the tokens if the server can do that, and forget them and the client registration."`
	lookCommands
	Callback   CallbackCommand   `cmd:"" name:"callback" help:"On the workstation: lend this machine's browser and loopback port to proxies on HOST."`
	Install    InstallCommand    `cmd:"" name:"install" help:"Write the entry for URL into the configuration of an MCP host, and sign in."`
	Uninstall  UninstallCommand  `cmd:"" name:"uninstall" help:"Take the entry out of the configuration of an MCP host."`
	SSHConfig  SSHConfigCommand  `cmd:"" name:"ssh-config" help:"Print the configuration resolved for HOST, as ssh -G does."`
	Share      ShareCommand      `cmd:"" name:"share" hidden:"" help:"Show or end the shared connections to bastions."`
	Try        TryCommand        `cmd:"" name:"try" help:"Start a bastion, a login server and an MCP server on this machine to practise on, until Ctrl-C."`
	FarEnd     FarEndCommand     `cmd:"" name:"far-end" hidden:"" help:"Started by itself over SSH: brings the logins of one machine to the browser of another."`
	Help       HelpCommand       `cmd:"" name:"help" help:"Explain a kind of error (the word of its last hint), a chapter of the manual, or a command; without TOPIC, list the first two."`
	Completion CompletionCommand `cmd:"" name:"completion" help:"Print the script that completes command lines in a shell."`
	Version    VersionCommand    `cmd:"" name:"version" help:"Print the version."`
}

// lookCommands are those that show how things are.
type lookCommands struct {
	Status StatusCommand `cmd:"" name:"status" help:"Show what is stored (never a secret), which proxies run here, their tunnels, and the shared connections."`
	Doctor DoctorCommand `cmd:"" name:"doctor" help:"Walk the whole way to the upstream step by step, and say what to do about the first thing that fails."`
	Tools  ToolsCommand  `cmd:"" name:"tools" help:"Show the tools that --pin-tools remembers, and what the upstream has changed since."`
}

// defaultCommand is the part of the grammar that a proxy needs.
type defaultCommand struct {
	ShowVersion bool         `name:"version" help:"Print the version." from:"-"`
	Proxy       ProxyCommand `cmd:"" name:"proxy" default:"withargs" help:"Carry an MCP session between stdio and URL (the default command)."`
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
	// Paste says that URL is not the upstream's: it is the callback, or empty.
	Paste bool `help:"Finish a login whose browser could not come back: give the address that it shows, by the prompt (or stdin), to the sallyport that waits." from:"-"`
	Remote
	// More are the words after URL: of --paste, a code may be followed by its state.
	More  []string `arg:"" optional:"" name:"state" help:"The state, after the code, with --paste."`
	Relay `group:"upstream"`
	Common
}

// LogoutCommand is `sallyport logout`. It accepts the flags of the relay and ignores them, as login
// does.
type LogoutCommand struct {
	All   bool `help:"With URL, sign out of all accounts there. Without, sign out of every account; what a server does not revoke is told, and forgotten all the same." from:"-"`
	Force bool `help:"Forget the tokens even if the server does not revoke them." from:"-"`
	Remote
	Relay `group:"upstream"`
	Common
}

// StatusCommand is `sallyport status`.
type StatusCommand struct {
	JSON  bool `name:"json" help:"Print JSON." from:"-"`
	Watch bool `help:"Show it again whenever it changes, until Ctrl-C." from:"-"`
	Store `group:"files"`
	Common
}

// DoctorCommand is `sallyport doctor`. It accepts the flags of the relay, so that the proxy's
// command line serves it unchanged.
type DoctorCommand struct {
	JSON    bool   `name:"json" help:"Print JSON." from:"-"`
	Report  string `name:"report" placeholder:"FILE" help:"Write a report that is fit to be sent to strangers: names of hosts and people are replaced." from:"-"`
	Client  string `name:"client" placeholder:"NAME" help:"Run with the environment, PATH and entry that this MCP host gives its servers: claude-code, codex, gemini, ..." from:"-"`
	Verbose bool   `name:"verbose" short:"v" help:"Show also of good rows what they were concluded from." from:"-"`
	Login   bool   `name:"login" help:"Sign in first, as sallyport login does; otherwise nobody is asked anything." from:"-"`
	Remote
	Relay `group:"upstream"`
	Common

	// Given are the settings that are not defaults.
	Given []Given `kong:"-"`
	// Warnings are those of the invocation.
	Warnings []string `kong:"-"`
}

// ToolsCommand is `sallyport tools`. It accepts the flags of the relay, so that the proxy's command
// line serves it unchanged.
type ToolsCommand struct {
	Accept bool `help:"Accept the upstream's tools as they are now." from:"-"`
	JSON   bool `name:"json" help:"Print JSON." from:"-"`
	Remote
	Relay `group:"upstream"`
	Common
}

// CallbackCommand is `sallyport callback`.
type CallbackCommand struct {
	Install bool `help:"First put this sallyport on HOST, in ~/.local/bin, unless an equal or newer one is there." from:"-"`
	Service bool `help:"Do this whenever you are logged on, by a service of yours (systemd, launchd, Windows), with the same flags." from:"-"`
	Remove  bool `help:"With --service: take the service away." from:"-"`
	// Unattended says that nobody is there to be asked, and that no HOST ends the command. The
	// service has it.
	Unattended bool     `hidden:"" from:"-"`
	Port       Ports    `help:"Port to carry to the same port of HOST, for tools that know nothing of sallyport (mcp-remote, claude, codex, gcloud); several are separated by commas." placeholder:"N[,N]"`
	Trust      []string `sep:"none" placeholder:"HOST" help:"Open the login pages of HOST without asking first; may be repeated."`
	Browser    `group:"callback"`
	SSH        `group:"ssh"`
	Store      `group:"files"`
	Common
	// Given are the settings that the person has made.
	Given []Setting `kong:"-"`
	Host  []string  `arg:"" optional:"" help:"Machine where you sign in: an alias of ssh_config, [user@]host[:port] or ssh://."`
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

// TryCommand is `sallyport try`.
type TryCommand struct{}

// FarEndCommand is `sallyport far-end`, which a sallyport on another machine starts over SSH.
// Nobody types it.
type FarEndCommand struct {
	Join  bool `hidden:"" help:"Bring one login, from stdin, to the browser of this machine." from:"-"`
	Dial  int  `hidden:"" help:"Connect stdin and stdout to this port of 127.0.0.1." from:"-"`
	Store `group:"files"`
	Common
}

// HelpCommand is `sallyport help`.
type HelpCommand struct {
	Topic string `arg:"" optional:"" help:"A kind of error, such as host_key, or a chapter, such as sign-in."`
}

// CompletionCommand is `sallyport completion`.
type CompletionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"bash, zsh, fish or powershell."`
	// Words are the words of a command line, the last of which is to be completed. The script of
	// the shell gives them.
	Words []string `arg:"" optional:"" passthrough:"" hidden:"" help:"Words of the command line to complete."`
}

// VersionCommand is `sallyport version`.
type VersionCommand struct{}
