// Package machines is the test library for whatever takes more than one program: real SSH servers,
// real authorization servers, real MCP hosts and servers, a real browser, and networks that only
// one of them can see. Its functions take a testing.TB, fail the test themselves, and end what they
// started with the test.
//
// # Begin
//
// A package that uses machines has this TestMain:
//
//	func TestMain(m *testing.M) { machines.Main(m) }
//
// Main moves the test process to a machine of its own: a network with nothing but a loopback
// interface, and a copy of /etc. On it every port is free, 53682 too, however many sallyports run
// on the real machine, and no test can take a port or an account from those. That takes root.
// Without it, tests that need such a machine are skipped, as are those that miss a program; with
// CI=true they fail (Need).
//
// # Which helper
//
// To run the command: Command is the real one with a home of its own. A Site's Command knows the
// site.
//
//   - StartHost runs it under a real MCP host, the Go SDK's; RunTypeScriptHost under the TypeScript
//     SDK's.
//   - StartStdio is a host's end of the pipes by hand: send a line, wait for the answer to an id.
//   - A host that people use needs a model. stories/signinhosts has a stand-in, which speaks the
//     forms of four services (model_test.go), and how five hosts are told of it (make hosts).
//   - StartInTerminal is a person at a terminal who reads and types.
//   - StartProcess is any program. Process.Wait gives the exit status, Process.Err.Await waits for
//     words.
//
// To have something to talk to:
//
//   - NewSite: an MCP server behind OAuth that only the last of some SSH servers can reach.
//     NewDirectSite: the same without SSH. NewPlainSite: one SSH server, no OAuth.
//   - NewFakeSite: an authorization server in the test's own process that can be told to misbehave.
//   - One by one: StartSSHD, StartPasswordSSHD, StartAgent, NewKey, WriteSSHConfig; StartOIDC,
//     StartZitadel, StartGate, NewAuthority; StartMCP, StartEverything, StartModern;
//     StartConnectProxy, StartCatcher.
//
// To be somewhere, or somebody else: NewNamespace is another machine's network, Namespace.Borrow
// shows an address of ours in it, FarApart makes two with a round trip between them. NewAccount is
// another account. Person is somebody at Chromium, and StartTab is Chromium step by step.
// StartDisplay is a display for real windows.
//
// To look for what must not be there: Secrets searches texts and files for every secret that the
// test knows. Watch sees to it that a process ends.
//
// # Waiting
//
// Nothing sleeps. Transcript.Await waits for words, FirstOf for those of the first of several
// hosts, Receive for a value on a channel, Process.Wait for an end. Poll asks again and again, for
// what nothing tells of. Each gives up after Patience, which is no assertion: it turns a hang into
// a failure that names what was awaited.
//
// # Roles
//
// What has to run in another network, or under another account, and is a few lines of Go, is a
// role: the test binary starts itself again. See Role and StartRole.
package machines
