// Sallyport carries an MCP session between an MCP host's stdio and a remote, OAuth2-protected
// Streamable HTTP MCP server, and manages its own SSH tunnels.
//
//	sallyport [flags] [URL]                the proxy, the default command
//	sallyport login [flags] [URL]          sign in now, in the terminal; --paste finishes a login
//	sallyport logout [flags] [URL]         revoke and forget; --all does so everywhere
//	sallyport status [--watch] [--json]    what is stored, which proxies run here, what they share
//	sallyport doctor [flags] [URL]         walk the whole way and say what fails first
//	sallyport tools [--accept] [URL]       what --pin-tools remembers, and what has changed
//	sallyport callback [flags] HOST...     on the workstation: lend its browser to logins on HOST
//	sallyport install --client NAME [URL]  write the entry into an MCP host's configuration
//	sallyport install --list               which MCP hosts are here, and where the entry is
//	sallyport uninstall --client NAME      take the entry out again
//	sallyport ssh-config [flags] HOST      the configuration resolved for HOST, as ssh -G prints it
//	sallyport share [--stop] [HOST]        show or end shared connections; started by itself
//	sallyport try                          servers to practise on
//	sallyport help [TOPIC]                 cause and fix of each kind of error, the chapters below
//	sallyport completion SHELL             the script that completes command lines
//	sallyport version                      as --version
//
// # The route to the upstream
//
// Without --via, requests leave this machine directly. They use the HTTP proxy of HTTPS_PROXY or
// HTTP_PROXY unless NO_PROXY excepts the host.
//
// With --via HOST, requests go through SSH. Sallyport looks HOST up in ~/.ssh/config and
// /etc/ssh/ssh_config as ssh does, and gives each hop of a ProxyJump chain its own block. The flags
// -F, -J and -o mean what they mean to ssh. If both --via and --callback-via are given, -J and -o
// belong to --via. The connection to the upstream is a channel of the last hop. No local port is
// bound. The URL, the Host header, the TLS name and the OAuth resource stay the real ones, and the
// last hop resolves the upstream's name.
//
// The flag --oauth-route says how requests to authorization servers of another origin leave: via,
// direct, or auto. The route auto is direct, and through SSH only if the direct dial itself fails.
//
// # Shared connections
//
// The first process that needs a chain of hops starts `sallyport share`, which dials the chain. All
// processes of the user on this machine that need the same chain go through it: one login, one
// second factor. It is nobody's child and outlives them. It ends when it is unused for
// --share-idle. After --share-max it takes no new stream, lets the open ones end, and the next need
// starts another one. `sallyport share --stop` and `sallyport logout --all` end it at once, and
// `sallyport status` shows it. Nothing else tells of it.
//
// Two processes share only if everything is the same that decides how each hop is reached, trusted
// and signed in at: the resolved configuration, and the environment that counts for it. So an edit
// of ssh_config leads to another connection. Where none can be shared, and with --share off, the
// process dials by itself. TLS and tokens stay in each process in either case.
//
// Questions of the login go to a terminal where `sallyport login` waits, else to the process that
// came first, which may have SSH_ASKPASS. The others wait for the answer.
//
// # Host keys and SSH authentication
//
// The key of each hop must be known to the known_hosts files of its own configuration. No flag
// skips that. Sallyport authenticates with the agent, key files, certificates, keyboard-interactive
// and passwords. The commands login and callback ask the person in the terminal. The proxy never
// opens a terminal, because it may be the MCP host's own. It starts the program of SSH_ASKPASS by
// the rules of ssh(1), or says which command to type.
//
// Many MCP hosts do not pass SSH_AUTH_SOCK on. Where it is not set, the agent of the shared
// connection or of the session stands in (packages share and agents). A variable that is set but
// empty, and IdentityAgent, are choices, and are respected.
//
// # Sign-in
//
// The upstream answers a request with 401. Its metadata (RFC 9728) names the authorization server,
// whose own metadata comes next (RFC 8414, OpenID Connect Discovery). Sallyport registers a client
// there if the settings name none (RFC 7591). The person logs in with a browser, and the callback
// goes to http://127.0.0.1:53682/callback, or to a path below that if the login server does not say
// in the callback who it is. If the port is taken, one of the next four is used, unless the client
// is registered with fixed ports. A link to the login page is always printed on stderr. The
// browser is started with another link, which works once. Tokens are stored encrypted in the state
// directory. Their key is in the system's keyring, or else in the configuration directory. The
// next start asks nothing.
//
// A login server may be reached from the far side of --via alone. Then its page opens in a window
// of sallyport's own: an installed Chromium, Chrome, Brave, Edge, Vivaldi or Firefox, with a
// profile that is kept in the directory browser of the state directory. Hosts that this machine
// does not reach are reached through the bastion there, as long as the login lasts. With --browser
// or --no-browser, and where none of these starts, stderr has the address of a proxy configuration
// (PAC) for a browser of yours.
//
// If the browser is on another machine than the proxy, there are two ways. The proxy reaches the
// workstation by SSH: with --callback-via WORKSTATION the callback's port is a remote forward
// there, which is gone after the login. Or the workstation reaches the proxy's machine: the person
// types `sallyport callback HOST` on the workstation, once for all logins on HOST. A login there
// opens this page on the workstation: HOST wants to sign in to the upstream, at the login server.
// Continue leads to the login page, and the answer goes back to HOST, which binds no port. The page
// is not shown again for the same HOST, login server and client ID, and never for the HOST of
// --trust. `sallyport status` lists what may be opened without asking, and `sallyport logout`
// forgets it. A tool that knows nothing of this needs a port of its own: --port N carries port N of
// the workstation to the same port of HOST. A redirect of that tool leads to a port of the
// workstation only if --port names that as well. Without HOST, callback lends the browser to logins
// that come by --callback-via alone.
//
// If a program on HOST ends in mid-login and asks again, the page that is open goes on with the new
// login. After three pages that the person refused or let pass, no page of HOST opens for an hour,
// but for one that is opened by hand: stderr of callback has its address, and after Continue there
// the hour is over. A login that HOST ends does not count, up to ten in an hour.
//
// With --install, callback first copies this program to HOST, as ~/.local/bin/sallyport, if HOST
// has the same platform and no equal or newer one. The copy gets its name only when it is whole and
// has run there once. With --service, callback runs whenever the person is logged on: by a unit of
// systemd, an agent of launchd, or a Run key of Windows, which has the same flags and holds no
// secret. Nobody can answer a question then, so a host that asks one is told when the service is
// installed, and is tried again and again. --service --remove takes it away.
//
// Where nothing brings a callback by itself, the person may use a second device: in an SSH session,
// without a desktop, with --no-browser or --callback-via, and as long as no helper has the login.
// If the login server has the device grant (RFC 8628), a code and the address where it is entered
// then stand beside the link, wherever that is shown. Both ways are open until one has led to a
// token. --grant authorization_code shows no code, and --grant device_code shows no link.
//
// Without any of these, the browser ends at a page that it cannot open. The person copies the
// address of that page. A login in a terminal takes it there, `sallyport login --paste` hands it
// to whichever process of this user waits for it on this machine, and the tool sallyport_sign_in
// takes it as callback_url. Its code is a secret: the prompt and stdin show it to nobody, and the
// command line does, so that is warned about.
//
// An editor's helper in BROWSER (VS Code, Codespaces) opens the link where its window is, and
// forwards the port. Under WSL the browser is that of Windows.
//
// # The far end
//
// Two sallyports on two machines work together in a login: the one that wants it, and the one at
// the browser. The one that dials starts the other by SSH, as `sallyport far-end`, which nobody
// types. It is looked for in PATH and in the usual directories, such as ~/.local/bin. `sallyport
// callback` starts it on HOST, where it owns the socket that logins find, and ends with the
// connection. Where HOST runs no command, its sshd forwards a socket in /tmp instead.
// --callback-via starts it on the workstation, with --join: it hands the login to `sallyport
// callback` there, or opens the browser itself, and holds the callback's port. The browser is that
// of BROWSER, or of the desktop at which the person sits, whose display is in the environment of
// the user's systemd or of another program of the user. Without a sallyport on the workstation, the
// port is a remote forward there, which is refused if GatewayPorts would open it to other machines.
//
// All ways are open at once: helpers, --callback-via, the browser here, the link on stderr and in
// the MCP host, a device code beside it. The first answer counts. A container needs the directory
// of helper sockets alone (browser in XDG_RUNTIME_DIR/sallyport, mounted at browser in the run of
// its state directory), or --callback-host 0.0.0.0 with the port published on 127.0.0.1 of its
// host.
//
// # Settings
//
// Each flag has an environment variable, and a field in the JSON file of --config. The variable is
// SALLYPORT_ and the flag's name in capitals, unless --help names another. A flag counts more than
// a variable, and a variable more than the file. An empty variable counts as unset. Lists in
// variables are separated by newlines. All settings of mcp-oauth2-proxy are understood.
//
// # MCP hosts
//
// The command `sallyport install --client NAME [flags] URL` writes an entry that starts sallyport
// with these flags into the configuration of an MCP host, shows the change, signs in, and asks the
// host's own health check if it has one. `--list` shows which hosts are here and what is in their
// files, and `--dry-run` shows the change alone. The name of the entry is made of the URL's host,
// or is that of --name. A host that knows scopes takes --client-scope: user (the default of all),
// local or project. `sallyport uninstall --client NAME` takes the entry out and leaves the rest as
// it was.
//
// While a sign-in is wanted, the host has the tools of the last session and two of sallyport's own.
// The first answer of sallyport_sign_in is the link, and later ones wait for the person. After the
// sign-in the host is told to list its tools anew. For a host that does not, the answer of
// sallyport_sign_in has the tools, and sallyport_call_tool calls them until the host lists anew.
//
// The entry holds what the person has typed and what SALLYPORT_ variables and their kin said, with
// full paths of files and of the program, and in hosts that keep variables of their environment
// back, those that sallyport needs: SSH_AUTH_SOCK, and on Linux those of the keyring, the sockets
// and the display. No secret is in it: that of --client-secret, and headers, go into files of mode
// 0600 below the configuration directory.
//
// Comments and the form of the file stay. A copy of the old file lies beside it,
// FILE.sallyport-TIME.bak, and the last three are kept. Another program's entry is left alone. If
// it is that of mcp-remote, of mcp-oauth2-proxy or of the host itself for the same URL, --replace
// puts sallyport in its place and keeps its env block.
//
// # Tools that change
//
// A server can change the description of a tool after the person has looked at it, and a model does
// what a description says. With --pin-tools, the proxy remembers the tools of an account as they
// are at the first use: names, descriptions, schemas, annotations, and whatever else a model may
// read. The form of the JSON does not count, nor do _meta, icons and execution. From then on, a
// tool that has changed is hidden, and so is one that was not there at the first use. A call of it
// is refused with words that say so. A tool that is gone is no matter.
//
// `sallyport tools URL`, with the flags of the proxy, shows the difference. It asks the upstream,
// and signs nobody in for that. `sallyport tools --accept URL` accepts the tools as they are now,
// and shows what it has accepted. It asks as a host with all capabilities does. A tool that a
// server shows to certain hosts only may be missing there, and is hidden after --accept. Proxies
// that run notice the acceptance within five seconds, tell their hosts that the list has changed,
// and permit the calls at once. --json prints the same for programs. The exit status is 0 also if
// something differs.
//
// The first use ends with the last page of the first list that is not empty, and after ten minutes
// at the latest. What is remembered lies in the token store, for each profile and route apart, and
// a logout forgets it: the next use is a first one. If it cannot be read, all tools are hidden.
// A tool of more than 1 MiB, or deeper than 64 values, is always hidden. Tools of --ignore-tool
// are not remembered. Prompts, resources and the server's instructions are not looked at.
//
// # Audit log
//
// With --audit-log FILE, each tools/call, resources/read and prompts/get of the MCP host becomes a
// line of JSON in FILE when it has ended:
//
//	{"time":"2026-07-28T12:00:00.000Z","upstream":"https://mcp.example/mcp","profile":"default",
//	"method":"tools/call","tool":"add","outcome":"ok","duration_ms":12.3,"client":"claude-code",
//	"pid":4711,"trace_id":"0af7651916cd43dd8448eb211c80319c"}
//
// A prompt has name and a resource has uri, without its query, in place of tool. The outcome is ok,
// tool_error, error, input_required, cancelled, refused (by sallyport) or no_answer. With an error,
// code is that of JSON-RPC, and kind the word of an error of sallyport's own. There are no
// arguments, no results and no secrets. The time is that of the beginning.
//
// Several proxies may write to one FILE. Its mode is 0600. Above 5 MiB it becomes FILE.1, and three
// old files are kept. A FILE that cannot be written ends the start. If the disk is full later, that
// is warned about once, and calls go on. The trace context of a host (traceparent, tracestate and
// baggage in _meta) passes to the upstream unchanged.
//
// # Login servers that need a setting
//
// Most of what servers do otherwise than the specifications say needs no setting. The comments of
// the packages oauth, oauth/asclient and relay list what is tolerated, and what never is. What is
// left is a choice that only the person can make. The hint of an error names the setting.
//
//   - The metadata is of another issuer than the one that led to it, nothing leads to a login
//     server, or the login server of a public upstream has a private address: --issuer URL. The
//     person vouches for the server at that URL. Its metadata is used, whatever the upstream names,
//     and a configured secret or key goes to no other server.
//   - The server refuses the parameter resource (AADSTS9010010 of Entra), or the upstream's
//     metadata names another resource than its URL: --resource none leaves the parameter out, and
//     --resource URI is used in place of what the metadata names.
//   - The server registers no clients: its administrator gives a client ID (--client-id), and
//     perhaps a secret (--client-secret-file) or a key (--client-key).
//   - The server takes no redirect URI but with the name localhost: --callback-host localhost.
//   - The server wants a parameter of its own in the authorize URL, such as a hint of the tenant,
//     or prompt=consent and access_type=offline before it gives a refresh token: --authorize-param
//     NAME=VALUE. It cannot replace a parameter of the protocol.
//   - The metadata does not mention PKCE, although the server knows S256: --pkce assume.
//   - The upstream takes ID tokens only: --bearer id.
//   - The upstream or the login server wants a client certificate: --client-cert FILE, and
//     --client-cert-key FILE if the key is in another file. The key must not be encrypted. The
//     files are read again when they change.
//   - The new token is refused, because it is for another resource, audience or scope than the
//     upstream wants: --resource, --audience, --scope.
//   - A firewall blocks the User-Agent sallyport/VERSION: --header 'User-Agent: NAME'. It replaces
//     the name in every request to the upstream's origin, also in those for metadata and tokens. No
//     other header of --header is sent with those.
//   - The upstream forgets a session that is idle: --keep-alive 30s sends pings.
//
// No setting gets past these: cleartext http to a host that is not loopback (but for
// --allow-insecure-http), a request with a secret that is redirected to another origin, a callback
// of another issuer, a server that does PKCE without S256, and a token that is bound to a key which
// nobody asked for.
//
// The cookies of an upstream are sent back to its origin, for load balancers. At most 50 are kept,
// in memory. A cookie in --header replaces one of the same name.
//
// # Errors
//
// On stderr an error is one line, followed by "hint:" lines. An MCP host gets the JSON-RPC error
// -32000 (transport, timeout) or -32001 (HTTP status of the upstream). Its message holds the cause
// and the hints, because many hosts show nothing else. Its data has kind and hint, too. Stderr and
// `sallyport status` name the same cause and the same hints. No hint names a setting that is made
// already, unless that setting is what is wrong.
//
// The proxy ends only because of a wrong setting, a host key, or an SSH authentication that is
// refused. It tries an unreachable bastion or upstream again. A sign-in that a server or the person
// refused does not end it: each call gets the cause, and a later call tries again. After a login
// page that led to nothing, the next one is shown 30 seconds later at the earliest.
//
//	0    done; the proxy also after end of input, SIGTERM and SIGINT
//	1    failed
//	2    usage or configuration
//	3    host key
//	4    SSH authentication refused
//	5    sign-in needed or refused; the proxy does not end with it
//	6    unreachable; the proxy does not end with it
//	130  interrupted
//
// # Finding the cause
//
// `sallyport doctor`, with the flags and the URL of the proxy, walks the whole way step by step:
// settings, ssh_config, each hop, the upstream, its certificate, the metadata of the sign-in, the
// store, the callback's port. It prints a row for each step, and ends with the first failure and
// what to do about it. What does not depend on that is looked at all the same. Nobody is asked for
// anything, no sign-in is begun, and nothing is changed, unless --login asks for a sign-in first.
// The flag --client NAME runs it with the environment, the PATH and the folder that an MCP host
// gives its servers. The flag --report FILE writes a report without names of hosts and people, and
// --json prints what `go doc ./cmd/sallyport/internal/doctor` describes. The exit status is that of
// the first failure, and 0 if there are only warnings.
//
// # Threat model
//
// Worth having are the tokens and the client's secret or key, the person's SSH keys and passwords,
// what travels in the MCP session, and the reach of the person's machine and of the last hop into
// their networks. Each paragraph names somebody who could want these, what stops them, with the
// package or the test that shows it, and what does not.
//
// The network reads and changes nothing. Host keys and certificates are verified, and no flag turns
// that off (sshtunnel/hostkeys; stories/faults). Cleartext http to a host that is not loopback
// needs --allow-insecure-http. Not stopped: whoever watches sees which hosts are talked to, when,
// and how much. With that flag, they see everything.
//
// A hostile upstream wants a token that is good elsewhere, or to have requests sent for it. Its
// token carries its resource (RFC 8707) and goes to its origin alone
// (leaks.TestTokenStaysAtTheOrigin), as do its cookies and the client certificate
// (session.TestCookies, session.TestCertificateIsPresentedToOurServersOnly). What its metadata
// names is dialed on the side that it is on itself: loopback, link-local and private addresses only
// where it is in the same network, never on this machine from behind a tunnel (session.Side,
// routes.TestSides). It cannot take memory or time beyond what it sends (stories/hostile), nor
// offer a tool with a name of ours (hostile.TestNameOfOurs). Secrets in use are replaced in what it
// is quoted with (leaks.TestNoSecretLeaks). With --pin-tools it cannot change the words of its
// tools unseen (relay.TestPinnedTools, stories/pins). Not stopped: it may lie to the model, in
// results and in the words of the first use, misuse the scopes that the person grants it, and it
// learns the public address. Behind a tunnel, an upstream that is
// not known to be public may name hosts of the network there, and the last hop itself. A name that
// only the last hop resolves is not checked; TLS stands against it.
//
// A hostile login server wants codes and secrets of another. Its metadata must be of the issuer
// that led to it (oauth.TestHostileIssuer). A configured secret is bound to one issuer
// (oauth.TestConfiguredSecretsAreBound). Where iss proves nothing, each issuer has a callback path
// of its own (oauth.TestCallbackPathPerIssuer), and PKCE is required. The tokens that it issues are
// its own to misuse.
//
// An identity provider that is configured may sign the person in as anybody. Others get nothing:
// its secret and ID token go to its own endpoints and to the login server of the upstream
// (oauth.TestProviderStateAndSecrets).
//
// A bastion, or another hop, sees no content of https, because TLS ends at the upstream. It gets no
// key: signatures are bound to the hop (session-bind@openssh.com), the agent is never forwarded,
// and a hop's own host key is verified through the hops before it. It cannot exhaust memory
// (hostile.TestBastion). Not stopped: it can cut the tunnel, see names and amounts, read and change
// an upstream of http, ask for a password that the person then types, and answer for the last hop's
// loopback and names.
//
// Another user of this machine sees neither tokens nor the state of a login. Files of the store
// have mode 0600 and are not read if they are open to others or not ours (oauth/tokenstore). An
// agent that we look for ourselves counts only if its socket and its process are this user's
// (agents.TestAnotherUsersSocket). A
// directory of sockets must be ours, and both ends of a socket look at the other's user first
// (control.TestDirectoriesThatAreNotUsed, processes.TestSharedDirectory). Secrets are taken out of
// the environment of child processes, a browser's arguments hold a link that works once
// (person.TestOurPageWorksOnce), and a secret in our own arguments is warned about. `sallyport
// callback` carries GET requests alone, and only to a socket of the same user (stories/callback).
// Not stopped: another user sees that sallyport runs, and for which upstream, and can take the
// callback's port, so that a login fails. On systems that cannot tell the user at the other end of
// a socket (Windows, some BSD), the directory alone protects.
//
// A login is shown to helpers on sockets that are ours, with a process of ours behind each, and to
// nobody else (helper.TestSocketsOfOthersAreLeftAlone). The helper can finish the login, and cannot
// use it: the code alone is worth nothing without the verifier, which stays here. A port that a
// workstation's sshd would open to others is not used (callback.TestGatewayPortsAreRefused).
//
// The process of a shared connection holds a way behind the bastion open, so others may want its
// socket. It lies in a directory of mode 0700 that must be ours, as must the one above it. Both
// ends look at the other's user before the first byte, as above
// (localsock.TestDialSendsNothingToAnotherUser, localsock.TestAcceptIgnoresAnotherUser,
// processes.TestStatusOfAnotherUsersShares). Two configurations that would trust or sign in
// differently never meet (share.TestEveryFieldIsInTheKey). What comes over the socket has limits: a
// line has 64 KiB, and streams wait for their reader (sshtunnel/mux). It knows no token and no
// password: answers to questions go through it to the hop once, and passphrases are not kept. The
// agent is not forwarded, and a hop that refuses a forward refuses it here. Not stopped: the way
// stays open after `sallyport logout URL`, until --share-idle, for whoever is at the keyboard.
// `logout --all` and `share --stop` close it. A connection that drains lives as long as its last
// stream. Trust that is taken back meanwhile, by an edit of known_hosts or of a list of revoked
// keys, counts from the next login on, as with a ControlMaster: `share --stop` brings that about.
//
// Another process of the same user is not stopped from anything. It can read our memory and files,
// use the agent, and replace this program. Through a shared connection it reaches what the last hop
// reaches, runs commands there as the user, listens there, and is asked the questions of a login
// that it waits for, all without a login of its own: a second factor protects the way to the
// bastion once for all processes, as with ControlMaster. --share off undoes that.
//
// A machine that is HOST of `sallyport callback` can ask the workstation to open pages, and no
// more. A link is opened only if it is an authorization request with PKCE whose answer comes back
// to the port that is held for it (callback.TestCheckLogin, callback.TestRogueLinks), and only
// after Continue on our own page, whose form no other page can send (callback.TestForms,
// callback.TestEvilPageInABrowser). It gets the callbacks of its own logins alone
// (callback.TestRoutingByState). It cannot open pages in a loop: one at a time, none for an hour
// after three that were refused or left alone, and twenty in ten minutes (callback.TestBrake,
// callback.TestBrakeOfATrustedHost). Its words are short plain text on our pages
// (callback.TestRogueTexts). What --port carries is its own page, in a sandbox: without origin,
// script, cookies and service worker (callback.TestCarriedPageInABrowser). A login server may know
// clients of which it asks the person nothing. So Continue is for one client ID, and another one is
// asked about, also in mid-login (callback.TestRogueChangesTheLoginPage). Not stopped: a HOST that
// the person said Continue to may open pages of that client, and ask there for scopes. One of
// --trust may do so for every client. It learns which loopback ports of the workstation are in use.
//
// Another user of the workstation may listen on one of its loopback addresses first. A login whose
// redirect URI a browser could take there gets another port, or is told
// (callback.TestAnotherUserHoldsALoopback). Our pages answer the processes of their own user alone,
// where the system tells (callback.TestAnotherUserOpensOurLink).
//
// A web page in the person's browser can send requests to the callback's port. It lacks the state,
// the Host header must be ours (DNS rebinding), idle connections keep nobody out
// (oauth.TestStrayRequestsAreIgnored, oauth.TestIdleConnectionsKeepNobodyOut), and our pages run no
// script. A link is opened only if it is http or https and at no address that the server has no
// reason to name, and no shell can make a command of it (person.TestLinksInTheHandsOfAShell). Not
// stopped: a login page may be imitated. The person must look at its address.
//
// A login page that only the far side of --via reaches is opened through a proxy on loopback. It
// serves no other user of this machine (farside.TestPAC), connects to nothing on this machine and
// to no address in place of a name (farbrowser.TestThisMachine), and never looks for a host in the
// far network that it reached without it (farbrowser.TestSideIsKept). Without TLS it reaches the
// login server alone (farbrowser.TestHosts, farbrowser.TestNotEncrypted), so that a page gets
// nothing from a service whose certificate is not for the name that the page uses. Not stopped: a
// page can find out which https servers the last hop reaches, as from a browser there. The cookies
// of the login server stay in the profile, as in any browser's. Where the far side is HOST, the
// login there makes the connections, and by the same rules (helper.TestTheLoginDials). HOST only
// offers a way: this machine decides what goes there, and what HOST sends unasked is dropped
// (callback.TestRogueBytes).
//
// The MCP host and its model see the session, and the links of logins. Only where the browser is on
// another machine, and nothing brings our own page there, does such a link hold the login's state.
// They get no token. What they tell the upstream to do is done: --ignore-tool hides and refuses
// tools. Not stopped: whoever reads the link with its state, or the code of a login, there may use
// it before the person does, and sign in with an account of their own. `sallyport login` and
// `sallyport status` name the account. No helper gets the code.
//
// Whoever writes text that a person reads may want it to look like something else, or to steer the
// terminal. All such text passes through person.Printable, and at last through person.Gate
// (stories/words). The payload of the MCP session is passed on byte for byte, so the host must
// treat it as foreign.
//
// A stolen disk holds the store, encrypted. If the key is in the system's keyring, it is as safe as
// that. Otherwise it is in a file of the configuration directory on the same disk, and protects
// only a copy of the state directory alone. The log has no secret at any level, but names of hosts.
//
// # Glossary
//
// One word has one meaning in the whole tree.
//
//   - host, or MCP host: the program that starts sallyport and talks to it over stdin and stdout.
//     In sshtunnel/sshconfig a Host is ssh_config's.
//   - upstream: the remote MCP server that the session is carried to.
//   - hop: one SSH server on the way. bastion: the last hop of --via.
//   - tunnel: the chain of hops, which is dialed on demand and dialed again when it is lost. link:
//     one established set of connections through all hops of a tunnel. It ends as a whole. In
//     messages to people a link is a URL to open.
//   - way: all that decides how a chain of hops is reached, trusted and signed in at. Its key is a
//     hash. Processes with the same key share. shared connection: the link that a share holds for
//     them. share: the process that does so, and only ever that.
//   - to attach: to tell a share that a process is there, which may be asked, and waits or uses it.
//     stream: one connection, listener or command through a share. to drain: to take no new stream
//     and to end with the last one. silent: of a share, that it does not answer; it may be stopped.
//   - session: the MCP session that relay carries. call: one request of the host that is in flight.
//   - wire: the form of MCP that is spoken with the upstream: legacy, modern, or bridge.
//   - obstacle: what is in the way of the upstream at present. explanation: one error in words for
//     people.
//   - sign-in: everything from the upstream's challenge to a new token. A refresh is not one.
//     login: the portion of a sign-in that needs a person, together with the discovery and the
//     registration that prepare for it.
//   - prompt: what a person needs for a login: URLs, and a code if the login server has one. login
//     page: the authorization server's page that a prompt leads to. callback: the request that the
//     browser makes to the redirect URI.
//   - record: what the token store keeps about one account. leader: the process that runs a login.
//     The other processes of the account follow it.
//   - route: how a request leaves: direct or via. background request: one that nobody waits for. It
//     never starts a login.
//   - person: the human. workstation: the machine with the person's browser. HOST: the machine
//     where a login is wanted, as the person typed it on the workstation. With --callback-via, HOST
//     is the workstation, as seen from the login.
//   - to lend a browser: to open the login pages of another machine here, and give back what the
//     browser brings. helper: a sallyport that does so, on the workstation. desk: the part of it
//     that holds the ports and shows the pages. far end: the sallyport at the other end of an SSH
//     connection, which was started through it.
//   - to carry: to pass the requests of a port on to the same port of HOST, for tools that know
//     nothing of helpers. to deliver: to hand a callback to the login that has its state.
//   - to trust: to open the login pages of a HOST without asking first. to vouch: to name a login
//     server by --issuer; a known_hosts line vouches for a host key.
//   - far side: the network that the last hop is in. PAC: a file that tells a browser which hosts
//     it reaches through which proxy.
//   - entry: what an MCP host's configuration says about one server. client: in the flag --client,
//     an MCP host that install knows; in OAuth, what a login server registers.
//   - row: a step of doctor, with its result. topic: what `sallyport help` explains.
//
// # Packages
//
// Package main is a page. The rest is in internal:
//
//   - command is the whole program, and cli is the grammar and the sources of the settings.
//   - session leads from the settings to tunnels, routes, sign-in and store. roots are the system's
//     certificates, environment is what the process was given, and hostio is stdin, the parent and
//     memory.
//   - explain has the words for errors, obstacle is what is in the way, and person has messages,
//     questions and the browser.
//   - control is the local interface of a running process, localsock are sockets of one user, share
//     finds, starts and runs shared connections, and agents finds the SSH agent.
//   - helper and callback are the two sides of a login whose browser is on another machine.
//     farbrowser opens a login page that only the far side reaches. deploy puts this program on
//     another machine, and service runs it at log-on.
//   - install edits the configurations of MCP hosts, and doctor looks for what fails.
//
// Package machines and the folders stories and bench are tests.
package main
