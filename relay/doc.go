// Package relay carries one MCP session between a host and an upstream.
//
// The host is a program that has started us. It writes JSON-RPC messages to Config.In, one on each
// line, and reads messages from Config.Out. The upstream is an MCP server behind Config.URL. It
// speaks Streamable HTTP, or the older HTTP+SSE.
//
//	            stdin, stdout                                      HTTP
//	host  --------------------->  reader, table of calls, wire  ----------->  upstream
//	      <---------------------           writer               <-----------
//
// [Run] carries a session. [Probe] only finds out which form of the protocol an upstream speaks.
//
// This comment is the design: what the parts do, in which order, and why. The messages themselves
// are in the MCP specification, and all details are in the code and its tests. A file name in
// parentheses says where the code is.
//
// # Promises
//
//   - Each request of the host gets exactly one answer, unless the host cancels the request.
//   - The answer comes from the server, except in three cases. If the server gives no answer, we
//     answer with an error ("Errors"). While the server is not reached, we answer some requests
//     ("Before the server is reached"). Under the bridge, we answer the requests that a modern
//     server does not know ("The bridge").
//   - A message is never decoded and encoded again. The relay looks at the id, the method and a few
//     other members of a message (package rawjson). All bytes stay as they are, except in these
//     edits. Of every message: a byte order mark, white space around it, and line breaks between
//     its tokens are dropped. Of an answer: hidden and invalid tools are cut out of lists, the
//     host's id replaces one of ours or a missing one, and the answers to a batch are joined. Of a
//     request under the bridge: _meta is set, and a later round has its own id and params. A call
//     of sallyport_call_tool is written anew ("The sign-in tool").
//   - The host gets nothing but JSON-RPC messages, each on one line.
//   - A request that may have run on the server is not sent a second time. The exceptions do no
//     harm: initialize, subscriptions/listen, and after a bare 503 requests that only read ("A busy
//     server").
//
// # Parts
//
// A session has a host side and an upstream side. The host side makes no HTTP requests. Its parts:
//
//	session       joins the parts, and is what a wire sees of the host           (relay.go)
//	reader        reads the host's lines and keeps their order                   (reader.go)
//	lineWriter    writes lines to the host                                       (frame.go)
//	callTable     has the requests in flight, and counts what the end waits for  (call.go)
//	watcher       tells the host what its requests wait for                      (obstacle.go)
//	early         opens the session, and answers before the server is reached    (early*.go)
//
// On the upstream side, each form of the protocol is a wire. A router chooses the wire for each
// message (router.go):
//
//	legacy        2025-03-26, 2025-06-18, 2025-11-25; also 2024-11-05, which is HTTP+SSE
//	modern        2026-07-28, for a host that speaks it too
//	bridge        2026-07-28, for a host that speaks a legacy revision
//
// The session calls a wire through the interface wire, and a wire calls the session through the
// interface hostSide. Both are in router.go. Both sides also use the settings (config.go), the
// lifetime (run.go), and the obstacles (obstacle.go). All wires make their HTTP requests with a
// client (post.go, answer.go).
//
// # Life of a call
//
//  1. The reader reads a line, and finds the id and the method in it.
//  2. The request enters the table of calls, and gets a goroutine of its own.
//  3. The wire sends it in a POST of its own. If it cannot be sent, it waits ("Waiting").
//  4. The response of Streamable HTTP is JSON or an event stream. All that comes before the answer
//     is written to the host at once. The answer is the message with the id of the call. With
//     HTTP+SSE, the answer comes on another stream.
//  5. The answer is written to the host, and the call leaves the table.
//
// If the host cancels a call, we write nothing more for it. If the call may be running upstream,
// the server is told: with notifications/cancelled by the legacy wire, and by the end of the HTTP
// request by the modern wire. An answer that comes later is dropped. A cancellation of initialize
// is ignored.
//
// The elements of a batch (2025-03-26) are sent upstream one by one, and their answers are one
// array again. The elements of a batch from the server are treated as single messages.
//
// Two ids are the same if they are equal as JSON values: 1 and 1.0, but not 1 and "1". Integers are
// compared digit by digit. The ids of our own requests begin with "sallyport-".
//
// # Goroutines
//
// These end before Run returns, except one that is still blocked in a Read or a Write then:
//
//   - the one that reads the host's lines. It never waits for the upstream.
//   - one for each call, and one for each answer of the host to a request of the server.
//   - one that sends the host's notifications. For each it starts another one, which waits until
//     the server has accepted it.
//   - one that reads the GET stream of a legacy session, or the subscription of a bridge.
//   - one that pings an idle legacy session, if Config.KeepAlive is set.
//   - two that open the session: one makes attempts, and one answers early.
//   - the watcher, and one that asks what the server speaks.
//
// # Order
//
// Two gates keep the order that the protocol asks for:
//
//	initialize --> gate 1 --> notifications/initialized --> gate 2 --> calls, other notifications
//
// Gate 1 opens when the server has answered initialize, because its answer brings the session id.
// An early answer of ours does not open it.
//
// On the legacy wire, gate 2 opens after two steps. First, the server has accepted or refused
// notifications/initialized, or acceptWait has passed. Then the GET stream is open, is refused, or
// has not opened within streamOpenWait. We wait for that stream because a server may send a
// question on it before it answers the first call. Config.Save remembers a refusal by 405, and the
// first session does not wait then. The bridge has its own rule.
//
// Notifications are sent one after the other. If the server has not accepted one within acceptWait,
// the next one is sent anyway. While there is an obstacle, acceptWait does not run. Calls are
// independent of each other. If the host writes several at once, they begin in the order of their
// lines, even behind a gate, but nothing depends on that. The host's answer to a request of the
// server waits for gate 1 only, because the server may need it in order to accept
// notifications/initialized.
//
// If a notification, or an answer of the host, cannot be sent because of an obstacle, it waits as a
// call does, except for Config.Timeout. If it fails then, or in any other way, the log shows that,
// and the host hears nothing. A notification that meets the loss of its session is sent again in
// the new one, once. An answer is not.
//
// Nothing is queued on the way to the host. If the host reads slowly, a Write blocks. The goroutine
// that has the message reads no more of its response, and flow control slows the server down. So
// much is also true of the other responses, as soon as maxHeld bytes of messages are held. The
// reader, too, stops when it has to write an answer of ours.
//
// # Waiting
//
// An [Obstacle] is something that keeps requests from the upstream at present, such as a tunnel
// that is down or a sign-in that waits for a person. Config.Obstacle returns it, with a channel
// that is closed when it changes. An [Explanation] puts one error of Config.Send into words. So an
// obstacle is a state, and an explanation belongs to an event.
//
// A call has two time limits. Both are counted from its arrival, or from the last sign of progress:
//
//	Config.Timeout    At its end the call gets the error "timeout", and if it may be running, the
//	                  server is told. There is none for initialize and subscriptions/listen.
//	Config.Patience   It counts for a call in the state unsent or replied (next section), and only
//	                  while there is an obstacle. A call that has waited longer than this gets the
//	                  obstacle as its error. There is none for initialize.
//
// Signs of progress are: a notification or a request of the server on the call's own stream, a
// progress notification with the call's token on any stream, and the host's answer to a question
// that the call has led to. Each attempt to send initialize has a Timeout of its own. If there is
// an obstacle at its end, it starts anew.
//
// If the request has a progress token, the host is told what the call waits for: first after
// Config.InitPatience, and then every progressEvery. If Config.Send returns an error and there is
// no obstacle, the call does not wait: it gets that error as its answer.
//
// If the field Final of an obstacle or an explanation is not nil, waiting does not help. All
// requests get it as their error. Run returns the error in Final when a request was answered with
// it, or after finalGrace.
//
// # A busy server
//
// A server may refuse a request for now, with the status 429, 503 or 425 (pause.go). Such a request
// has not run. It waits in the state held, and is sent again if that is within its Config.Timeout.
// The host is told of the wait as of an obstacle. If the request has no progress token, nothing can
// tell the host, and the wait is not longer than unheardWait. Config.Patience does not count.
//
//	status        Retry-After    what we do
//	------------  -------------  ------------------------------------------------------------------
//	429, 503, 425 within the     We wait for as long as it says, and at least for our own back-off
//	              time           ("Trying again"). Up to a tenth of it is added, at most a second.
//	429, 503, 425 longer         The refusal is the answer, at once, with the time.
//	429, 425      none           We wait for our own back-off, up to maxBusy times.
//	503           none           The same for ping, tasks/get, notifications/initialized and all
//	                             lists. Any other request may have run, behind a gateway. The
//	                             refusal is its answer.
//
// Without Retry-After, initialize, server/discover and subscriptions/listen do not wait here,
// because the loops that send them try again in any case. If the body of the refusal is the result
// of the request, that is the answer. A date in Retry-After is compared with the server's own Date.
//
// A pause holds for requests of the same method and the same tool, except the GET stream and the
// DELETE. Others, such as a ping, are sent, and wait if they are refused, too. When it is over, one
// request goes ahead. If that one is refused, the pause begins anew. Otherwise, or after scoutTime,
// the others follow. They are spread over spreadEach for each of them, and at most over maxSpread.
//
// # Has it run?
//
// A request that fails may wait and be sent again only if it cannot have run on the server. A
// request that may have run is answered with an error that says so. Config.Send is an
// http.RoundTripper, and it tells us how far a request has come: it calls four hooks of
// net/http/httptrace, as an http.Transport does.
//
//	                GetConn            WroteHeaders         GotFirstResponseByte
//	request begins ---------> unsent --------------> written --------------------> replied
//	                            ^                      ^                            |  |
//	                            |                      +-- Got1xxResponse, return --+  |
//	                            +---------------------- GetConn -----------------------+
//
//	unsent    It cannot have run.
//	written   It may have run.
//	replied   The server has begun to answer, but RoundTrip has not returned. So Send is dealing
//	          with a refusal, and nothing is running.
//
// Two further states are not Send's: a call that is held waits for a busy server, and one that is
// asking waits for the host's answer under the bridge. Neither has run, or runs.
//
// An http.Transport returns as soon as the header of the response has come. If RoundTrip does not
// return then, Send has got a refusal and deals with it. For instance, it got a 401 and waits for a
// person to sign in. Later it may send the request anew, and calls GetConn again. An http.Transport
// calls GetConn in the state written, too, when it knows that it may repeat the request (post.go).
//
// When RoundTrip returns a response or an error, a request in the state replied counts as one that
// may have run, except if Config.Explain says NotRun of the error. We take these responses for
// refusals, and send the request again: a redirect with 307 or 308, the status of a busy server
// (last section), the loss of a session and a token that does not suffice ("The legacy wire"), the
// error -32020 ("The modern wire"), and a status that contradicts the remembered era ("What the
// server speaks").
//
// A RoundTripper that calls no hook is judged by the request's body. As soon as somebody has read a
// byte of it, the request counts as written. Then such a RoundTripper cannot tell us that it waits
// for a person after a 401, and the call ends with Config.Timeout instead of Config.Patience.
//
// # Trying again
//
// What may fail again is repeated in one loop (retry.go). Between two attempts, the loop waits for
// a back-off: retryDefault after the first failure, and twice as long after each further one, up
// to retryMax. Up to half of it is left out at random. If the server of an event stream has named
// a reconnection time, the first back-off is that time, but at least leastRetry ("Hostile peers"),
// and all later ones are at least as long. A Retry-After makes the next back-off as long as it
// says, up to maxAfter. After the back-off, every loop except the opening waits until there is no
// obstacle.
//
//	what is repeated            the back-off starts   the back-off is cut    the loop ends
//	                            anew after            short by
//	--------------------------  --------------------  ---------------------  ----------------------
//	a call's broken stream      an event              nothing                with the answer, or
//	                                                                         after maxResumes
//	the GET stream              an event              if it got a 401: the   with a refusal that
//	                                                  answer to any call     stays
//	a subscription              a notification        nothing                with a refusal that
//	                                                                         stays
//	a lost HTTP+SSE session     nothing               nothing                when there is a session
//	the opening of the session  a request of          a request of           with a result, or an
//	                            the host              the host               error that the host gets
//
// A refusal that stays is a status 4xx other than 401, 408 and 429, or a redirect that we do not
// follow. One repetition is not in the table: if Send returns an error in the state unsent while
// there is an obstacle, the request is sent again whenever that changes, without a back-off. The
// error of a sign-in is an exception, because the request would begin another one.
//
// # What the server speaks
//
// There are two eras of servers (era.go). A legacy server wants initialize, and a modern one does
// not. We send server/discover to a server that we do not know. In this table the first row that
// fits counts:
//
//	response to server/discover                                        the server is
//	a result whose supportedVersions has a version that we speak       modern
//	the error -32022 whose data.supported has such a version           modern
//	the error -32020 or -32021                                         modern
//	the error -32601 with the status 404                               modern
//	any other JSON-RPC answer, with any HTTP status                    legacy
//	nothing within acceptWait                                          legacy
//	a success without a JSON-RPC answer                                legacy
//	a status 4xx other than 401, 403, 408, 429                         legacy
//	everything else: 401, 403, 408, 429, 5xx, redirect, no connection  unknown
//
// An answer has the id of our request. If a 401 or a 503 has a JSON-RPC error without that id in
// its body, its status counts. After -32022 we ask once more, in the version that both sides speak.
//
// If the era stays unknown, a legacy host's initialize is sent on the legacy wire all the same, and
// the host gets what comes of that. The reason is that a gateway may refuse a method that it does
// not know in any way: with any status, with a redirect, or by closing the connection. In three
// cases the request fails with the reason why the era is unknown: the host is modern, the question
// was never sent, or its error is that of a sign-in, which initialize would meet as well.
//
// The question of a legacy host goes by Config.InSession, so a 401 in answer to it signs nobody in
// while there is a token. Whether a token is good is judged by initialize.
//
// Config.Save remembers the era. We ask again when the server contradicts what we remember:
//
//   - It refuses initialize with the status 400 or 404 and an error code from -32020 down to
//     -32099, or with 404 and -32601. Only a modern server does that.
//   - It refuses a modern request with the status 400, 404 or 405, and not with a JSON-RPC answer.
//
// If initialize was refused and the server turns out to be modern, the bridge answers initialize.
// Otherwise the host gets the refusal. If a modern request was refused and the era was only
// remembered, the request is sent again to a modern server, and gets -32601 for a legacy one. If
// the era was found in this session, the host gets the refusal, and we ask before the next request.
//
// A host counts as modern if, before any initialize, it sends server/discover, or a request whose
// _meta has "io.modelcontextprotocol/protocolVersion". After initialize it is a legacy host.
//
//	host     server    what carries the session
//	legacy   legacy    the legacy wire
//	legacy   modern    the bridge
//	modern   modern    the modern wire
//	modern   legacy    nothing. We answer each request with the error -32601. To a host that knows
//	                   both eras, this means that it has to send initialize.
//
// # The legacy wire
//
// The code is in legacy*.go. The headers of a request are MCP-Protocol-Version once a version is
// negotiated, Mcp-Session-Id if the server has given one, Accept, and for a POST Content-Type.
//
//	none --initialize answered--> open --session lost--> renewing --initialized accepted--> open
//	                                |
//	                                +--Run ends--> DELETE
//
// A session is lost if the server answers a request in it with 404. Many servers answer something
// else (legacy_refusal.go). This table has all answers that we take for a lost session. In it,
// proven means that the server has accepted something in this session before.
//
//	answer to a request in the session          it is lost
//	------------------------------------------  ----------------------------------------------------
//	404, 410                                    always
//	401                                         if there is an Mcp-Session-Id. The token may be at
//	                                            fault as well; the new initialize shows that
//	400                                         if proven, and the body, or the message of the error
//	                                            in it, contains the word "session"
//	any other 4xx but 429; 5xx                  if proven, and the words say that the session is not
//	                                            known. The session of a tool, such as that of a
//	                                            browser, is another thing
//	a success with an error, -32600 or -32000   if the words say that the session is not known
//	to -32099
//	400, other 4xx but 429, 5xx (if proven), or if the words say that the server is not initialized,
//	such an error                               even if there is no Mcp-Session-Id
//
// With 404, 410 and 401 the body does not matter. Everywhere else a page (text/html) never counts.
//
// To renew a session, we send the host's own initialize again. The host does not see the answer.
// Then we send an initialized of our own and open a new GET stream. The request that was refused
// has not run, and is sent again in the new session, once. Requests that meet the loss at the same
// time share one renewal. All other messages wait for its end, except the host's answers to
// requests of the server. These are sent at once: in the new session, if the server has answered
// initialize already, and otherwise in the old one.
//
// Requests with an Mcp-Session-Id go by Config.InSession, which returns a 401 that need not be
// about the token. The initialize of a renewal, and the request that is sent again, go by
// Config.Send, which judges the token. So a server that answers 401 for a session that it has
// forgotten costs no sign-in. If Config.Send is refused as well, its refusal is the answer to the
// call, and our session with the host goes on. A server may answer 401 to one kind of request in
// every session. So when a new session has not helped, the next 401 to a request of that kind leads
// to a ping in the session. If the server takes the ping, the session is there, and the 401 is the
// answer. A bare 403 is treated in the same way if the request had another token than the session
// was opened with. A 403 with a Bearer challenge is about the token only, and is the answer. If the
// server refuses the initialized of a renewal, the new session is used all the same.
//
// A renewal may take renewTimeout, which starts anew as long as there is an obstacle, such as a
// sign-in. If the GET stream shows the loss, the renewal goes by Config.Background.
//
// If Config.KeepAlive is set, a session that has been idle for that long is sent a ping of ours
// (legacy_ping.go). Idle means that no call is under way, and that no message has gone or come. The
// ping goes by Config.Background, and none is sent while there is an obstacle. The host never sees
// the answer. An answer that shows the loss of the session leads to a renewal by Config.Background.
// If there is no answer within pingWait, the connection of the GET stream is taken for dead, and
// the stream is asked for again; with HTTP+SSE the session ends. The modern wire has no session to
// keep and no ping, so nothing is sent there.
//
// If the stream of a call breaks before the answer, we ask for the rest of it with a GET that has
// the header Last-Event-ID. If the server has given no event ids, the call gets an error. The GET
// stream is asked for again in the same manner, as long as the session lasts. The GET stream and
// the DELETE use Config.Background, which never asks a person to sign in.
//
// Some servers have two faults. After a replay, some send nothing more on the resumed stream. So
// when a resumed stream has been silent for resumeSilence, we ask for it again; the next time we
// wait twice as long, up to retryMax. And some servers replay all messages on every stream. So we
// drop a request or a notification on a resumed stream if we have seen its event id and its bytes
// before, among the last maxReplay messages.
//
// # HTTP+SSE
//
// If the server refuses the POST of initialize with 400, 404 or 405, and neither answers it nor has
// an error that only a modern server has, we try HTTP+SSE. With TransportSSE we do so at once, and
// with TransportHTTP never.
//
//	us                                      server
//	 | ---- GET ------------------------------> |
//	 | <--- event: endpoint, data: /messages -- |   this stream is the session
//	 | ---- POST /messages: initialize -------> |
//	 | <--- 202 ------------------------------- |
//	 | <--- event: message, the answer -------- |
//
// The endpoint must have the same origin as Config.URL, because the token is sent to it. When the
// stream ends, so does the session. Calls that were accepted get an error, and we open a new
// session with the host's own initialize.
//
// # The modern wire
//
// The code is in modern*.go. Each request is a POST of its own. There is no session, and the only
// streams are the responses. When such a stream breaks, its call gets an error, as it cannot be
// resumed.
//
// The headers repeat parts of the body: MCP-Protocol-Version, Mcp-Method and Mcp-Name. The header
// Mcp-Param-NAME has an argument of a tool, if the tool's input schema marks that with
// x-mcp-header. We learn the marks from the answers to tools/list, and cut a tool with an invalid
// mark out of these.
//
// If a server answers a call with the error -32020, the header was not what it expects, and the
// call has not run. Then we list the tools, and send the call again, once.
//
// A subscriptions/listen has no Timeout, and the end of the session does not wait for it. If its
// stream breaks after the server has acknowledged it, we send it again with the same bytes. The
// host gets the first acknowledgement only.
//
// # The bridge
//
// The code is in bridge*.go. The host has a session with us, and the server knows of none. So we
// answer these requests ourselves: initialize, from the answer to server/discover; ping;
// logging/setLevel; resources/subscribe and resources/unsubscribe.
//
// Into the params of each other request we insert _meta. It has the version, the capabilities and
// the name that the host has given in initialize, and the log level. The request that answers the
// server's questions (below) also has an id of ours, inputResponses and requestState. Nothing else
// changes. Of the host's notifications by its revision, only initialized has an effect. All others
// are sent on, as the requests are.
//
// A result of another kind than complete and input_required belongs to an extension, such as that
// of tasks. A host that has declared extensions gets it as it is. For any other host it is an
// error.
//
// After notifications/initialized we send a subscriptions/listen of our own. It asks for the
// changes of those lists that the server says may change, and for the updates of the resources that
// the host has subscribed to. Gate 2 opens when the server has acknowledged or refused it, or after
// acceptWait. When the host subscribes or unsubscribes, we send a new one. When the server has
// acknowledged that, we end the one before.
//
// A modern server may ask for input before it answers a call. Each question becomes a request to
// the host:
//
//	host                        us                            server
//	 | -- tools/call, id 7 ----> | -- tools/call, id 7 ------> |
//	 |                           | <- input_required --------- |
//	 | <- elicitation/create --- |                             |
//	 | -- result --------------> | -- tools/call, id ours, --> |
//	 |                           |    results, requestState    |
//	 | <- the answer, id 7 ----- | <- the answer, id ours ---- |
//
// A server may ask at most maxRounds times for one call. If the host answers a question with an
// error, the call gets an error. Questions that are open when their call ends are cancelled.
//
// # Before the server is reached
//
// The code is in early*.go. A host gives up on us if initialize is not answered within 30 or 60
// seconds, and a person needs longer than that to sign in. So we answer it in the server's place:
// as soon as a person is needed, or a sign-in has failed, and in any case after
// Config.InitPatience. From then until the server answers, the session is pending.
//
//	             +--> attempts, one after the other ----------------> the server answers
//	             |                                                      |
//	initialize --+                                                      |
//	             |                                                      v
//	             +--> a person is needed: our answer --> pending ------> open, lists have changed
//
// Our answer is the server's answer of the last session, if there was one. In it we replace a
// version that is newer than the one that the host asks for, and say that tools may change
// (listChanged). If there was no last session, our answer says that the server has tools, prompts
// and resources, and that all of them may change.
//
// A modern host sends server/discover first. We answer that, too, at the same time and from the
// last session. If there was none, we answer with an error that makes a host of both eras send
// initialize. We answer that initialize at once, because the host has waited already.
//
// While the session is pending:
//
//	request                     what we do
//	ping                        We answer it.
//	tools/list                  We answer with the tools of the last session. If there are none, or
//	                            a sign-in was wanted, our tools sallyport_sign_in and
//	                            sallyport_call_tool are in the list.
//	prompts/list, resources/list, resources/templates/list
//	                            We answer with an empty list.
//	a call of sallyport_sign_in We answer with the link, or call Config.SignIn and answer when the
//	                            server is reached ("The sign-in tool").
//	a call of                   It becomes the call that it stands for, and waits like all else.
//	sallyport_call_tool
//	all else                    It waits for the gates, and makes the next attempt begin at once.
//
// A host that has declared elicitation in URL mode is also asked to show each URL, once: after
// Config.InitPatience, or as soon as sallyport_sign_in is called.
//
// sallyport_sign_in takes one argument, callback_url, which may be missing: the callback of a login
// that the person has copied, because the browser is on another machine. Config.Deliver gets it
// first. If that fails, the result says why, with isError, and with the URL that is wanted now. The
// argument is a secret: it goes nowhere else, and into no log.
//
// When an attempt fails, all calls that arrived before it began get its error, even if their
// Config.Patience is not over. The exception is a call of sallyport_sign_in, if the attempt failed
// because a sign-in is needed. If nobody has completed a sign-in, the further attempts use
// Config.Background, because each sign-in would open a page. The next request of the host makes
// them use Config.Send again.
//
// When the server has answered, gate 1 opens, and what has waited is sent in its order. Then the
// host is told which lists have changed. Where the server lacks a capability that our answer had,
// we go on answering its lists with empty ones. If the server speaks another version than our
// answer named, the headers have the server's version, and messages are not changed. A server name,
// instructions or capabilities that our answer did not have are lost for this session.
//
// If the server refuses initialize, with an error or with a status that another attempt would not
// change, the host gets the refusal as the answer to initialize. If we have answered that already,
// the calls that wait get the refusal as their error, and the attempts go on.
//
// # The sign-in tool
//
// The result of sallyport_sign_in is one text for a model and its person. The first call that meets
// a link is answered at once, with the link in the first line: many hosts show a person nothing
// before a tool has answered. A host that can show the link itself is asked to do so first. If it
// accepts, the link counts as shown. A code that comes to the link later (Obstacle.CodeURL) is told
// in the same way. An obstacle without a link that stays until a person has acted
// (Obstacle.Person) is told at once, too, as an error. The next call waits. After Config.Patience
// it has the link again. If there is no link then, or the sign-in or an attempt fails, the call
// gets an error. A call of this name is ours at any time ("Hostile peers").
//
// When the server is reached, the order is this:
//
//	host                                us
//	 | -- tools/call sallyport_sign_in -> |    the person signs in
//	 | <---- tools/list_changed --------- |
//	 | -- tools/list -------------------> |    relistBegin, and relistEnd for all pages
//	 | <---- the server's tools --------- |
//	 | <---- result: connected ---------- |    after relistSettle
//
// So a host has the server's tools when its model goes on. Before, all hosts asked their model with
// the old tools once more, and a model without tools ends its turn.
//
// Some hosts never list again. When the time is over, we read the tools ourselves, and the result
// has them: name, description and schema, as far as they fit into maxToolsText. Otherwise it has
// the names and the beginnings of the descriptions, and says so; the argument "tool" then asks for
// one tool as a whole. The time is counted from tools/list_changed, so no later call waits again.
//
// The model calls these tools by sallyport_call_tool, whose arguments are name and arguments. We
// turn that into the call that it stands for: name and arguments are replaced in the params, and
// the message is written anew with its id, its method and these params. From there on it is a call
// like any other: filters see the real name, and progress, a cancellation and the result need no
// rule of their own. As soon as the host has read the server's list to its end, this tool is gone.
// Otherwise a person who allows one tool in a host would have allowed all. Config.IgnoreTools may
// hide it.
//
// # What is remembered
//
// Config.Save gets these, each under the name on the left, if they have changed and have at most
// maxMemory bytes:
//
//	era          "legacy" or "modern"
//	initialize   the result of initialize
//	tools        an array of all tools, when the host has read all pages of tools/list
//	discover     the result of server/discover, as a modern host got it
//	pins         the accepted tools, by Config.Update and without maxMemory ("Accepted tools")
//
// Config.Load reads era once, before the first initialize or modern request. It reads the others
// when we answer in the server's place, and before a Save. These names are the only keys. So the
// caller of Run gives each upstream, and each account there, a memory of its own.
//
// # Errors
//
// Our own errors have these codes:
//
//	-32700   a line of the host is not JSON; the id is null
//	-32600   it is no valid request: no JSON-RPC message, too long, or the id is in use
//	-32601   a modern host asks a legacy server
//	-32602   the parameters are wrong, or the tool is hidden
//	-32000   the upstream was not reached, or has not answered
//	-32001   the upstream has answered with an HTTP status
//
// The data of an error has these members. kind is a stable word: that of an Obstacle or an
// Explanation, or one of ours (timeout, closed, busy, bad_answer, too_large and others). hints are
// lines that say what to do, and hint has all of them. url is that of the obstacle. status and body
// are those of the HTTP response; of the body at most maxExcerpt characters are shown. Config.Mask
// hides secrets in the message and in body.
//
// Config.Answered is told what went wrong before the host is, and of each answer of the upstream.
// It is not told what one call alone has met: a status of the upstream, or its silence, in a
// session that works. The third such call in a row is told. Config.Explain gets the status of a
// response as a [*StatusError].
//
// # What is tolerated
//
// Servers and the gateways before them differ from the specification in many ways. The sections
// above have the rules for these:
//
//   - A lost session that is told by another status than 404, or in words ("The legacy wire").
//   - A server/discover that is refused in any way ("What the server speaks").
//   - A server that is busy, with or without Retry-After ("A busy server").
//   - A stream that ends early, stays silent after a replay, or replays too much, and one that ends
//     without event ids ("The legacy wire").
//   - A message with a byte order mark, white space or line breaks, an answer that comes on the GET
//     stream, an error without an id. A body of a wrong content type is read as JSON.
//   - A version, capabilities or lists that differ from our early answer ("Before the server is
//     reached").
//   - Extensions. Methods, notifications and members that we do not know pass as they are, and so
//     do kinds of results if the host has declared extensions.
//
// # What never is
//
//   - A request that may have run is not sent again, whatever the server says, but for the
//     exceptions under "Promises".
//   - Nothing is sent to another origin than that of Config.URL, because the token goes with it. A
//     redirect or an endpoint of HTTP+SSE that leads elsewhere is an error.
//   - A redirect that may change the method (301, 302, 303) is not followed.
//   - The host gets no line that is not JSON-RPC, no second answer, and no answer to a request that
//     it has cancelled.
//   - A message above maxMessage is not carried. No table, queue or memory grows without a limit
//     ("Hostile peers").
//   - A tool of Config.IgnoreTools is neither listed nor called, and a tool with an invalid mark is
//     not listed. The same holds for a tool of the server with a name of ours.
//   - Requests of our own that nobody waits for never ask a person to sign in.
//
// # Other rules
//
// A redirect with the status 307 or 308 to the same origin is followed, up to maxRedirects times.
// If a POST is redirected with 308, all later requests go to the new URL, until the legacy wire
// sends an initialize to Config.URL again. Any other redirect is an error. A response of the type
// text/event-stream is read as a stream, and any other as JSON.
//
// Config.IgnoreTools hides tools (tools.go). They are cut out of the answers to tools/list, and
// calls of them are refused.
//
// Config.Audit is called once for each tools/call, resources/read and prompts/get of the host, when
// that is answered, refused or cancelled (audit.go). The trace context of W3C in _meta passes as
// every other member does. No revision of the protocol repeats it in a header.
//
// # Accepted tools
//
// With Config.PinTools, a tool is shown and called only if it is one of those that a person has
// accepted (tools_pins.go). Package pins says how tools are compared. The record of accepted tools
// is what Config.Update keeps under MemoryPins. Another process may replace it at any time, so it
// is read again for each tools/list, and before a call is refused.
//
//	no record --a list that is not empty--> open --its last page, or firstUse--> closed
//	                                          |                                   |
//	                                          +-- tools of new names are added    +-- none is added
//
// Each list of the upstream passes the filter on its way to the host, on all wires, and so do the
// list that we read for the sign-in tool, and the list of the last session. That one teaches
// nothing: without a record it is shown as it is. A call is refused if the record does not have its
// name, or if the last list had another form of it. A call before any list is judged by its name
// alone, because the model can only know the accepted words.
//
// While something is hidden, we look at the record every acceptEvery. If it has changed, a host
// with a session is told that the list of tools has changed. A modern host has no session, and
// finds out with its next list.
//
// A record that cannot be read hides everything. One that cannot be written holds for the session.
//
// # The end
//
// When the host's input ends, we take nothing more. Calls in flight may finish within exitGrace.
// When the context ends, a Write to the host fails, or an obstacle is final, there is no such time.
// In all cases, each call that is left then gets the error "closed". If there is no obstacle, the
// legacy wire also sends its DELETE. It has exitGoodbye for that, but exitBound, less exitReserve,
// is the limit for both steps together. After exitBound at most, Run returns.
//
// # Values
//
//	retryDefault 1 s      retryMax 30 s          maxResumes 5          resumeSilence 5 s
//	acceptWait 10 s       streamOpenWait 2 s     progressEvery 5 s     finalGrace 3 s
//	exitGrace 1 s         exitGoodbye 1 s        exitBound 1.8 s       maxRounds 16
//	maxMessage 64 MiB     maxCalls 1024          maxNotifications 1024 maxReplay 4096
//	maxMemory 4 MiB       maxExcerpt 500         maxRedirects 5         exitReserve 0.2 s
//	maxBatch 1024         maxStrayBatch 16       maxPages 100           maxToolMemory 4 MiB
//	maxMarks 100          maxSchemaDepth 64      maxErrorBody 64 KiB    maxInterim 100
//	leastRetry 0.5 s      maxLeastRetry 8 s      dropsEvery 10 s        maxHeld 256 MiB
//	renewTimeout 30 s     maxBusy 4              maxAfter 600 s         scoutTime 2 s
//	spreadEach 20 ms      maxSpread 2 s          pingWait 30 s          unheardWait 45 s
//	relistBegin 2 s       relistEnd 10 s         relistSettle 0.2 s     maxToolsText 24 KiB
//	maxToolBrief 200      firstUse 10 min        acceptEvery 5 s       maxAudited 256
//
// The defaults of the three durations in Config are 300 s (Timeout), 25 s (Patience) and 3 s
// (InitPatience).
//
// # Hostile peers
//
// A server, or a host, may send what costs it little and us much. What it can cost is bounded: each
// message that is on its way takes a small multiple of its bytes, and all else together takes a
// fixed amount. The stories in cmd/sallyport/internal/stories/hostile measure that: the peak of the
// resident memory stays below 64 MiB and four times the bytes of the messages on their way.
//
//	what                            its bound          what happens beyond it
//	------------------------------  -----------------  --------------------------------------------
//	a message                       maxMessage         an error with its id
//	elements, members               none               they are walked over, and not collected
//	nesting                         10,000             an error, as for any text that is not JSON
//	an id, a progress token         rawjson.MaxID      it is none
//	a method                        rawjson.MaxMethod  it is none
//	a batch of 2025-03-26, or of    maxBatch           an error; nothing in it counts
//	the host
//	a server's batch in any other   maxStrayBatch      the same
//	revision
//	requests of the host in flight  maxCalls           the error "busy"
//	its notifications, and answers  maxNotifications   they are dropped, which the log shows
//	messages of the server that     maxHeld            the server is read no further, but for one
//	are held at once                                   message, until the host has read some
//	messages to the host            none               nothing is queued: the server is not read
//	pages of a list                 maxPages, where we none is kept; a list above maxMemory is not
//	                                read them          remembered
//	marks of all tools              maxToolMemory      these arguments are not repeated in headers
//	marks of one tool               maxMarks           the tool is invalid
//	depth of a schema               maxSchemaDepth     no marks are seen there
//	a tool with Config.PinTools     1 MiB, 64 deep     it is hidden
//	accepted tools                  2 MiB of names     the tools beyond are hidden
//	their words                     4 MiB, 256 KiB     only a hash is kept, so the person sees only
//	                                each               what the tool is now
//	messages to know in a replay    maxReplay          the oldest is forgotten
//	an event id                     sse.MaxID          it does not count
//	body of a refusal               maxErrorBody       the rest is not read
//	interim responses               maxInterim         the request fails
//	redirects                       maxRedirects       the request fails
//	pause before a stream is asked  leastRetry         it is doubled for each stream that brings no
//	for again                                          message, up to maxLeastRetry, unless the
//	                                                   server asks for longer
//	lines of the log on what the    one in dropsEvery  the next line has their count
//	server sends in vain
//
// Headers and compression are bounded by Config.Send.
//
// The names of our own tools begin with "sallyport_". A tool of the server with such a name, or
// with one that looks so (tools_ours.go), could pass for a part of the proxy. So it is cut out of
// all lists, which the log tells once, and a call of such a name is an error. A call of
// sallyport_sign_in or sallyport_call_tool is always ours.
package relay
