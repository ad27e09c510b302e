// Package relay carries one MCP session between a host and an upstream.
//
// The host is a program on the other end of two pipes: it writes one JSON-RPC message on each line
// of Config.In and reads messages from Config.Out. The upstream is an MCP server that speaks
// Streamable HTTP, or the older HTTP+SSE, behind Config.URL.
//
//	        stdio                                              HTTP
//	host ==========>  reader --> table of calls --> wire ==============>  upstream
//	     <==========  writer <------------------------    <==============
//
// [Run] carries a session. [Probe] only finds out which form of the protocol an upstream speaks.
//
// This comment is the design. Together with the MCP specification it is enough to write the package
// again. Names in brackets behind a heading or a term are the files where the code is.
//
// # What the package promises
//
//   - Every request of the host is answered exactly once. The answer is the server's own, byte for
//     byte. If the server's answer is missing, broken, late or not JSON-RPC, the answer is an error
//     of ours. A request that the host has cancelled is not answered.
//   - A message is never decoded and encoded again. The relay looks at its id, its method and a few
//     other members (package rawjson). Of the text it drops only a byte order mark, white space
//     around the message, and line breaks between tokens. Some messages are changed on purpose;
//     the sections below name all of them, and then only the bytes in question change.
//   - Nothing but JSON-RPC messages, each on one line, is written to the host.
//   - A request that may have run on the server is not sent a second time. Only initialize and
//     subscriptions/listen are, because repeating them does no harm.
//
// # Parts
//
// A session has two sides. The host's side knows nothing of HTTP. It consists of parts that each
// own their state:
//
//	session    joins the parts, and is what the wires know of the host            [relay.go]
//	reader     reads the host's lines and keeps their order                       [reader.go]
//	lineWriter writes whole lines to the host                                     [frame.go]
//	callTable  the requests that are in flight; what the end has to wait for      [call.go]
//	obstacles  what is in the way of the upstream                                 [obstacle.go]
//	watcher    tells the host what its calls wait for                             [obstacle.go]
//	early      opens the session, and answers before the server is reached        [early*.go]
//
// The upstream's side is a wire: one form of the protocol. There are three, and upstream chooses
// one of them for each message [upstream.go]:
//
//	legacy     2025-03-26, 2025-06-18, 2025-11-25, and 2024-11-05 by HTTP+SSE     [legacy*.go]
//	modern     2026-07-28, for a host that speaks it too                          [modern*.go]
//	bridge     2026-07-28, for a host that speaks a legacy revision               [bridge*.go]
//
// The session reaches a wire through the interface wire, and a wire reaches the session through the
// interface hostSide. Both are in upstream.go. Besides these, the two sides share only the settings
// and the lifetime [config.go, run.go] and the obstacles. All wires make their HTTP requests by way
// of server [post.go, answer.go].
//
// The inner package rawjson looks into messages and edits them, and sse reads event streams.
//
// # Life of a call
//
//  1. The reader cuts a line at its newline and finds the id and the method in it.
//  2. It enters the request in the table of calls. From now on a timer runs (Config.Timeout), which
//     each sign of progress starts anew.
//  3. The wire sends the request in a POST of its own.
//  4. The answer is a JSON body, or an event stream of many messages. Notifications and requests of
//     the server go to the host as they come. The message with the call's id is the answer.
//  5. The call leaves the table when its answer is written to the host.
//
// If the host cancels the call, its context ends. Nothing more is written for it. If it may be
// running upstream, the server is told.
//
// # Goroutines
//
// All of these end before Run returns. The only exception is a Read of Config.In, or a Write to
// Config.Out, that is still blocked then.
//
//   - One reads the host's lines and never waits for the upstream. When a line begins a call, this
//     goroutine carries the call, and another one reads on. So each call has a goroutine.
//   - One sends the host's notifications in their order. Each of them also has a goroutine until
//     the server has accepted it.
//   - Each answer of the host to a request of the server has one.
//   - One holds the GET stream of a legacy session, or the subscription of the bridge.
//   - One watches the obstacle.
//   - Two open the session: one makes attempts, and one answers early.
//   - One asks which form of the protocol the server speaks.
//
// # Order
//
// The reader hands messages on in their order. Two gates keep the order that the protocol wants:
//
//	initialize ---> gate 1 ---> notifications/initialized ---> gate 2 ---> everything else
//
// Gate 1 opens when initialize is answered, because the session id comes with the answer. Gate 2
// opens when the server has accepted notifications/initialized and the GET stream is open or
// refused, or streamOpenWait has passed. It exists because a server may answer the first call with
// a question on the GET stream.
//
// Notifications go one after the other. If the server does not accept one within noticeWait,
// although nothing is in the way, that one holds up nothing any more. Calls are concurrent, and a
// slow call holds up nobody. An answer of the host to a request of the server waits for gate 1
// only, because the server may need it before gate 2 can open.
//
// # Has it run?
//
// When a request fails, the relay must know whether it may have run on the server. If it cannot
// have run, it may wait and be sent later. If it may have run, it is answered with an error that
// says so. Config.Send tells which it is by calling three hooks of net/http/httptrace, as an
// http.Transport does:
//
//	GetConn          WroteHeaders         GotFirstResponseByte
//	-------> unsent -------------> written -------------------> replied
//	           ^                                                   |
//	           |    GetConn: the server has refused the request,   |
//	           +----------- and Send sends it anew ----------------+
//
// "unsent" means that it cannot have run, and "written" that it may have run. "replied" means that
// the server has begun to answer and that RoundTrip has not returned. Then the answer was a refusal
// and Send deals with it, for instance by a sign-in, so the request has not run. When RoundTrip
// returns a response, the state is "written".
//
// A RoundTripper that calls no hook is judged by the request's body: as soon as a byte of it was
// read, the state is "written". That is the safe side, but it has a price. Such a RoundTripper that
// waits for a person after a 401 cannot show that nothing runs, so its requests end with
// Config.Timeout and not with Config.Patience.
//
// # Obstacles and explanations
//
// An [Obstacle] is a state: what is in the way of the upstream at present, for instance a tunnel
// that is down. Config.Obstacle returns it, together with a channel that tells of the next change.
// An [Explanation] is an event: one error of Config.Send, put into words by Config.Explain.
//
// While an obstacle stands, requests that are not yet written wait for Config.Patience, counted
// from their arrival. Then they are answered with the obstacle's words and URL. A request with a
// progress token is told every few seconds what it waits for. If the obstacle goes away, the
// requests are sent. An error without an obstacle is answered at once.
//
// An obstacle or an explanation whose Final is set cannot be mended by waiting. All requests are
// answered with it, and Run returns Final as soon as one request was answered, or after finalGrace.
//
// # Trying again
//
// All repeated attempts go by one loop [retry.go]. Between two attempts it waits for a back-off
// that grows with each failure, from retryDefault to retryMax, and of which a random part is left
// out. A server may name the first back-off itself. News can cut a back-off short. Then the loop
// waits until nothing is in the way, and tries again.
//
//	what is tried again         the back-off begins      it is cut short      the attempts end
//	                            anew after               when                 with
//	a call's broken stream      an event                 -                    maxResumes in a row
//	the GET stream              an event                 a call is answered   a refusal for good
//	a subscription              a notification           -                    a refusal for good
//	a lost HTTP+SSE session     -                        -                    success
//	opening the session         the host asks            the host asks        success
//
// A request that an obstacle keeps from being written is tried again without a back-off, whenever
// the obstacle changes.
//
// # Which wire
//
// A server is of one of two eras [era.go]. A legacy server is opened with initialize. A modern one
// has no sessions. The relay asks a server that it does not know with server/discover:
//
//	answer                                                      the server is
//	a result that names a version we speak                      modern
//	an error -32022 that names a version we speak               modern
//	an error -32020 or -32021, or -32601 with status 404        modern
//	any other answer, or silence for noticeWait                 legacy
//	status 4xx, but for the next line                           legacy
//	status 401, 403, 408, 429, 5xx, or no connection            unknown: a gateway may have answered
//
// What was found is kept by Config.Save. The relay asks again only when the server contradicts what
// is remembered: when it refuses an initialize as only a modern server does, or a modern request as
// no modern server does.
//
// A host is modern if it says so in a request before it has sent initialize. After initialize it is
// legacy.
//
//	host      server    what carries the session
//	legacy    legacy    the legacy wire
//	legacy    modern    the bridge
//	modern    modern    the modern wire
//	modern    legacy    nothing: requests are answered with the error -32601. No modern server
//	                    answers so, and a host that knows both eras goes on to initialize.
//
// # The legacy wire
//
// A session begins with initialize and notifications/initialized, and ends with a DELETE when the
// host's input ends.
//
//	none --initialize answered--> open --404--> renewing --initialize, initialized--> open
//	                               |
//	                               +--the host's input ends--> DELETE
//
// A server that has forgotten the session answers 404, or 400 with words about the session. Then
// the relay sends the host's own initialize again and keeps the answer from the host. The request
// that met the 404 has not run, so it is sent again, once. Requests that meet the 404 together
// share one renewal. The order of the gates holds in the new session, too: everything but the
// host's answers waits for the end of the renewal.
//
// If the stream of a POST breaks before the answer has come, it is resumed by a GET with
// Last-Event-ID. That works only if the server has given event ids; otherwise the call is answered
// with an error. The GET stream is asked for again for as long as the session lasts. A 405, or any
// other refusal that time cannot mend, ends that.
//
// Two faults of real servers are worked around. Some replay what they have kept and then send
// nothing more on the resumed stream: so a resumed stream that is silent for resumeSilence is asked
// for again, and each time the silence may last twice as long. And some replay everything on each
// stream: so a request or a notification that a replay brings for the second time is dropped.
//
// The GET stream and the DELETE go by Config.Background, so that no person is asked to sign in for
// them. After a 401 the GET stream is asked for again later, and at once when a call is answered.
//
// # HTTP+SSE
//
// If the POST of initialize is refused with 400, 404 or 405, and not in the words of a later
// revision, the relay tries a GET of the same URL. Config.Transport can demand that at once, or
// forbid it.
//
//	relay                                   server
//	  | ---- GET -----------------------------> |
//	  | <--- event: endpoint, data: /messages - |  this stream is the session
//	  | ---- POST /messages: initialize ------> |
//	  | <--- 202 ------------------------------ |
//	  | <--- event: message, the answer ------- |
//
// The endpoint has to be of the same origin, because it gets the token. When the stream ends, the
// session ends with it: calls that were posted are answered with an error, and the relay opens a
// new session with the host's own initialize.
//
// # The modern wire
//
// Each request is a POST of its own, and nothing holds them together. There is no session, no GET
// stream and no resumption: if a stream breaks, its call is answered with an error. To leave the
// stream is to cancel the call.
//
// The HTTP header repeats parts of the body: the version, the method, the name, and the arguments
// that the tool's input schema marks with x-mcp-header. The relay learns these marks from the lists
// of tools that pass by. A tool with an invalid mark is cut out of its list. If a server refuses a
// call because of its header (-32020), the call has not run: the relay lists the tools anew and
// sends the call again, once.
//
// A subscriptions/listen has no time limit, and the end of the session does not wait for it. If its
// stream breaks off after the server has accepted it, it is sent again with the host's own bytes
// and id. The host sees only the first acknowledgement.
//
// # The bridge
//
// The session that a legacy host believes in exists only in the relay. It answers initialize from
// the server's DiscoverResult. It answers ping and logging/setLevel itself. Each request gets a
// _meta in its params, with the version, with what initialize said of the host, and with the log
// level. It is spliced into the bytes, so all others stay as they came.
//
// After notifications/initialized a subscription of ours brings the changes of lists, and of the
// resources that the host has subscribed to. When the host's wishes change, a new subscription
// replaces the old one, which ends when the new one is acknowledged.
//
// A modern server may answer a call with questions:
//
//	host                     bridge                      server
//	  | -- tools/call, id 7 -> | -- tools/call, id 7 -----> |
//	  |                        | <- input_required -------- |
//	  | <- elicitation/create  |                            |
//	  | -- the person's answer>| -- tools/call, another id: |
//	  |                        |    answers, requestState-> |
//	  | <- the answer, id 7 -- | <- the answer ------------ |
//
// There are at most maxRounds of this. An error from the host ends the call. Questions that are
// still open when their call ends are cancelled.
//
// # Before the server is reached
//
// A host kills a server that does not answer initialize within 30 or 60 seconds. A person needs
// longer than that to sign in. So if initialize is not answered within Config.InitPatience, the
// relay answers in the server's place, while the attempts to open the session go on:
//
//	initialize --+--> attempts upstream, one after the other ------------> result: session open
//	             |
//	             +--> InitPatience passes --> answered early --> pending --> session open
//
// The early answer is the one of the last session with this upstream (Config.Load). Its version is
// not newer than the host asks for, and it says that the tools may change. If there was no last
// session, the answer promises tools, prompts and resources that change. server/discover of a
// modern host is answered from the last session, too. If there was none, the answer is an error
// that sends a host that knows both eras on to initialize; that is then answered at once.
//
// While the session is pending:
//
//   - tools/list shows the tools of the last session. It also shows the tool sallyport_sign_in, if
//     a sign-in is wanted or no tools are remembered. All other lists are empty, and ping is
//     answered. All other requests wait for the gates.
//   - A call of sallyport_sign_in asks for a sign-in (Config.SignIn) and waits until the server is
//     reached. If that takes longer than Config.Patience, the answer shows the URL of the sign-in.
//   - A host that has declared elicitation in URL mode is asked to show each URL once.
//   - An attempt that fails is followed by another one after a back-off, or at once when the host
//     asks for something. Calls that arrived before a failed attempt began are answered with its
//     error, because each call is tried once.
//   - After a sign-in that nobody completed, the attempts go by Config.Background, because a new
//     sign-in would open a new page. When the host asks for something, they go by Config.Send
//     again.
//
// When the server has answered, notifications/initialized goes to it, then all that has waited, and
// then the host is told that the lists have changed. If the server lacks something that the early
// answer has promised, the list of that stays an empty one of ours. If the server speaks another
// version than the host was told, the headers name the server's version and the messages pass as
// they are: the legacy revisions differ in what may be said, and not in how. Instructions, names
// and further capabilities come too late for this session, but the next one has them.
//
// If the server refuses the session before the early answer, the host gets the refusal as it is.
// After the early answer, the waiting calls get it, and the attempts go on.
//
// # Hidden tools
//
// Config.IgnoreTools names tools by patterns [tools.go]. They are cut out of the answers to
// tools/list, whose other bytes stay, and a call of one is refused.
//
// # Limits
//
// A message may have maxMessage bytes. A longer line of the host is answered with an error that has
// its id, and a longer answer becomes an error. At most maxCalls requests are in flight; one more
// is answered busy. At most maxNotices notifications, and as many answers of the host, are on their
// way; more are dropped with a line in the log.
package relay
