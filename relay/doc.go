// Package relay carries one MCP session between a host on a pair of pipes (one JSON-RPC message per
// line) and a server that speaks Streamable HTTP, or the HTTP+SSE before it.
//
// # What it promises
//
// Every request of the host is answered exactly once: with the server's own bytes, or with an error
// line of ours when the server's answer is missing, broken, late or not JSON-RPC. A request that
// the host has cancelled is not answered. The payload is never decoded and encoded again; of a
// message the relay looks at id, method and a handful of members (message.go), and drops only a
// byte order mark, the white space around the message and the line breaks between its tokens.
// Nothing else reaches the host's pipe. An answer is looked at while it arrives (scan.go), but goes
// on only when all of it has come: half a line cannot be taken back.
//
// # Parts
//
// A session (relay.go, call.go, obstacle.go) is the host's side: the reader, the single writer, the
// table of calls in flight, what stands in the way of the upstream, and leaving. It knows nothing
// of HTTP. A wire carries messages upstream and is the only part that differs between protocol
// revisions:
//
//	legacy  2025-03-26, 2025-06-18 and 2025-11-25, and HTTP+SSE of 2024-11-05 (legacy.go, stream.go, replay.go, httpsse.go)
//	modern  2026-07-28, for a host that speaks it too (modern.go, params.go)
//	bridge  2026-07-28, for a host that does not (bridge.go)
//
// All reach the server by way of post.go. An upstream (era.go) finds out which wire it is to be and
// hands on what the session gives it: calls, notifications, the host's answers to requests of the
// server. A wire gives back what arrived: session.answer for the answer to a call, session.toHost
// for everything else.
//
// # Goroutines
//
// One reads the host's lines and never waits for the upstream; when a line begins a call it carries
// that, and another one reads on, so each call has one; each answer of the host to a server's
// request has one; one hands on notifications in the order they came, and each has one until it is
// accepted; one holds the GET stream, or the bridge's subscription; one watches the obstacle; one
// asks what the server speaks. All end before Run returns, except a Read of Config.In, or a Write
// to Config.Out, that is still blocked then.
//
// Where several calls are in flight an answer waits until the goroutines that are ready have run,
// for theirs to be written with it (lineWriter): each write wakes the host.
//
// # Order
//
// The host's reader hands on messages in order, and two gates keep the order that the protocol asks
// for. Everything after initialize waits until that is answered, for the session id comes with the
// answer. Everything after notifications/initialized waits until the server has accepted it and the
// GET stream is open, refused, or streamOpenWait has passed: a server may answer the first
// tools/call with a question on that stream. Notifications go one after the other, and one that the
// server has not accepted within noticeWait, although nothing is in the way, holds up nothing any
// more. Beyond that, calls are concurrent and slow ones hold up nobody. The host's answers wait
// only for the first gate, as the server may ask for them before the second opens.
//
// # The legacy session
//
//	none --initialize answered--> open --404--> renewing --initialize, initialized--> open
//	open --In ends--> DELETE
//
// On a 404 in a session, or a 400 that speaks of the session, initialize is sent again with the
// host's own bytes and its answer is kept from the host; the request that met the 404 did not run,
// so it is sent again, once. Requests that meet the 404 together share one renewal, and the order
// above holds in the new session: everything but the host's answers waits for the end of the
// renewal.
//
// A POST's stream that breaks before the answer is resumed by GET with Last-Event-ID if the server
// gave event ids, after the server's retry time, else it is an error. The GET stream is reopened
// for as long as the session lasts; 405, or any other refusal that time cannot mend, ends that. A
// resumed stream that is silent is asked for again, after resumeSilence at first, for there are
// servers that replay and then send nothing more on it; and a request or notification that a replay
// brings for the second time goes no further. The GET stream and the DELETE go by
// Config.Background, so that no person is asked to sign in for them; after a 401 the stream is
// asked for again later, and at once when a call has been answered.
//
// # Which wire
//
// Servers are of one era or the other: with initialize (legacy) or without (modern). A server never
// seen is asked with server/discover, which only a modern one answers with a version we speak or
// with an error code of its own (classify); what was found is kept by Config.Save and asked for
// again only when the server contradicts it: an initialize refused in the modern way, a modern
// request refused in any other. A status that may be a gateway's (401, 403, 408, 429, 5xx) says
// nothing.
//
//	host    server
//	legacy  legacy   the legacy wire
//	legacy  modern   the bridge
//	modern  modern   the modern wire; the host's own bytes
//	modern  legacy   error -32601, which is none of a modern server: it sends a host that knows both to initialize
//
// A host is modern if its requests say so before any initialize; after one, it is legacy.
//
// # The modern wire
//
// Each request is a POST of its own whose header repeats parts of the body: version, method, name,
// and the arguments that the tool's input schema marks with x-mcp-header. These marks are learnt
// from the lists of tools that pass by. A tool with an invalid mark is cut out of its list; no
// other answer is changed. A call refused with HeaderMismatch has not run: the tools are listed
// anew, and it is sent again, once. There is no session, no stream but the answer's own, and no
// resumption: a stream that breaks is an error for its call. Leaving the stream is the
// cancellation. A subscriptions/listen has no time limit, does not hold up the end, and is asked
// for again, with the host's own bytes and id, when its stream breaks off after the server has
// accepted it; the host sees one acknowledgement.
//
// # The bridge
//
// The session that a legacy host believes in exists here alone. initialize is answered from the
// DiscoverResult, ping and logging/setLevel by us. Into the params of every request goes _meta with
// the version and what initialize said of the host, and the log level, by splicing bytes (set):
// 64-bit numbers, repeated keys and the rest stay as they came. From initialized on one
// subscriptions/listen of ours brings the changes of the lists, and the updates of the resources
// that the host has subscribed to; a changed wish is a new request, and the old one ends when the
// new one is acknowledged.
//
// An answer that asks for input becomes ordinary requests to the host, with ids of ours. With the
// host's results, and the server's requestState as it came, the call is sent again under a new id,
// for at most maxRounds; the last answer gets the host's id back. An error of the host ends the
// call, and questions that are open when their call ends are cancelled.
//
// # HTTP+SSE
//
// Where the POST of initialize is refused with 400, 404 or 405, and not in the words of a later
// revision, a GET of the same URL is tried, or at once if Config.Transport says so. Its stream
// names the endpoint, of the same origin, that messages are posted to; those are only accepted, and
// everything comes back on the stream. The stream is the session: with its end the calls that were
// posted are answered with an error, and a new one is opened, at once and again until it succeeds,
// with the host's own initialize.
//
// # Tools
//
// Config.IgnoreTools (tools.go) cuts tools out of the answers to tools/list, whose other bytes
// stay, and refuses to call them.
//
// # Before the server is reached
//
// A host kills a server that keeps initialize waiting for 30 or 60 s, and a person takes longer
// than that to sign in. So what is in the way for Config.InitPatience shows itself (opening.go,
// early.go, signin.go, memory.go); what passes sooner shows nothing.
//
//	initialize --> attempts upstream, with the host's own bytes ----------------------> result: open
//	           \-- InitPatience --> answered in the server's place: pending ----------/
//
// In detail:
//
//   - initialize is answered as in the last session with this upstream (Config.Load), but for a
//     newer version than the host asks for and that its tools may change; without one by the least
//     that leaves everything open: tools, prompts and resources that change. server/discover of a
//     modern host is answered from the last session too; without one by an error, which sends a
//     host that knows both wires to initialize, and that is then answered at once.
//   - While that is pending, tools/list has the last session's tools and, if a sign-in is wanted or
//     nothing is remembered, the tool sallyport_sign_in; the other lists are empty; ping is
//     answered here. Where only the link is in the way of a known server the list is that server's:
//     its calls say what is missing. Everything else waits as below, behind the gates of "Order".
//   - sallyport_sign_in waits until the server is reached, or tells the link when Config.Patience
//     is over. A host that declared elicitation in URL mode is asked to show the link, once for
//     each; a request with a progress token is told every few seconds.
//   - An attempt that does not reach the server is followed by another, ever later, or at once when
//     the host asks for something. What waited for it when it began is answered by its error, as
//     any call is tried once. After a sign-in that nobody completed the attempts go by
//     Config.Background, for a new sign-in opens a new page, until the host asks for something.
//   - When the server has answered, notifications/initialized follows, what waited goes, and after
//     that the host is told that the lists have changed. Lists of what the server turns out to lack
//     stay empty ones of ours, as the host was told otherwise.
//   - A refusal before the early answer goes to the host as it is; one after it answers the calls,
//     and is tried again. If the server speaks another version than the host was told, the headers
//     are those of the server's and the messages pass as they are: the legacy revisions differ in
//     what may be said, not in how. Instructions, name and further capabilities come too late for
//     this session; the next one has them.
//
// # Waiting
//
// Config.Obstacle tells what stands in the way. While something that may pass stands there,
// requests not yet written upstream wait for Config.Patience since they arrived. Then they are
// answered with the obstacle's words and its link. A request that was written is never sent twice:
// it may have run. A final obstacle answers everything and ends Run.
package relay
