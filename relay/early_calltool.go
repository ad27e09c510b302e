package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"sallyport/relay/rawjson"
)

// callTool is the reserved name of the tool that calls a tool of the server. A host that never asks
// for the list of tools again has no other way to the server's tools.
const callTool = "sallyport_call_tool"

// callToolEntry is the tool in a list of tools.
var callToolEntry = sync.OnceValue(func() []byte {
	return encode(map[string]any{
		"name":  callTool,
		"title": "Call a tool of the server",
		"description": "Calls a tool of the server behind this proxy that is not in your own list of tools. " +
			"Call " + signInTool + " first: when the person has signed in, its answer names the tools and their parameters. " +
			"A tool that is in your own list is called by its own name instead.",
		"inputSchema": map[string]any{
			"type": "object",
			"properties": map[string]any{
				"name":      map[string]string{"type": "string", "description": "The name of the server's tool."},
				"arguments": map[string]string{"type": "object", "description": "The arguments of that tool, as its own schema describes them."},
			},
			"required": []string{"name"},
		},
	})
})

const (
	// relistBegin is how long the answer of the sign-in tool waits for a host to ask for the list
	// of tools, after the host was told that it has changed. relistEnd is how long it waits for the
	// end of that list.
	relistBegin = 2 * time.Second
	relistEnd   = 10 * time.Second
	// relistSettle is how long a host has to make its tools of the list. Most hosts take them for
	// the next request to their model a moment later.
	relistSettle = 200 * time.Millisecond

	// maxToolsText is how many bytes the tools may take in the answer of the sign-in tool. Hosts
	// cut longer results, some at 10,000 tokens.
	maxToolsText = 24 << 10
	// maxToolBrief is how many characters of a tool's description are shown where its schema is
	// not.
	maxToolBrief = 200
)

// relisting is how far a host is that was answered early, in reading the server's own tools.
type relisting struct {
	// announced is closed when the host was told that the list of tools has changed.
	announced *latch
	// begun is closed when the host has asked for the list after the server was reached, and done
	// when it has the last page.
	begun, done *latch
}

func newRelisting() relisting {
	return relisting{announced: newLatch(), begun: newLatch(), done: newLatch()}
}

// renamed returns m or, if that is a call of callTool, the call that it stands for: the same with
// the name and the arguments of the server's tool. Everything else in it stays, such as the id and
// _meta.
func (e *early) renamed(m rawjson.Message) (rawjson.Message, *fault) {
	if !callsNamed(m, callTool) || e.session.hidden.hides(callTool) {
		return m, nil
	}
	h := e.answered.Load()
	if h == nil || h.relisting.done.isClosed() {
		return m, newFault(codeParams, "reserved_tool", callTool+" is not needed: the server's own tools are in the list of tools",
			"call the tool itself, by its own name")
	}
	given := rawjson.Member(m.Params, "arguments")
	name := rawjson.Member(given, "name")
	if len(name) == 0 || name[0] != '"' {
		return m, newFault(codeParams, "invalid_request", callTool+" needs the name of a tool",
			`give the name of one of the server's tools, and its arguments, as in {"name":"NAME","arguments":{}}`)
	}
	arguments, ok := objectIn(rawjson.Member(given, "arguments"))
	if !ok {
		return m, invalidParams("the arguments of " + callTool + " hold arguments that are no object")
	}
	params := rawjson.ObjectOf("name", name)
	if arguments != nil {
		params = rawjson.Set(params, arguments, "arguments")
	}
	for key, val := range rawjson.Members(m.Params) {
		if key != "name" && key != "arguments" {
			params = rawjson.Set(params, val, key)
		}
	}
	m.Params, m.Raw = params, requestLine(m.ID, m.Method, params)
	if shortText(name) == callTool || shortText(name) == signInTool {
		return m, e.session.hidden.refuseName(shortText(name))
	}
	return m, nil
}

// objectIn returns the raw arguments for a tool: raw itself, or the text of a string, because some
// models write the object so. It returns nil if there are none, and false if they are no object.
func objectIn(raw []byte) (object []byte, ok bool) {
	if len(raw) > 0 && raw[0] == '"' {
		text, err := rawjson.Parse([]byte(rawjson.Text(raw)))
		if err != nil {
			return nil, strings.TrimSpace(rawjson.Text(raw)) == ""
		}
		raw = text.Raw
	}
	if len(raw) == 0 || string(raw) == "null" {
		return nil, true
	}
	return raw, raw[0] == '{'
}

// listBegins notes that the host asks for a list of the server's tools.
func (e *early) listBegins() {
	if h := e.answered.Load(); h != nil {
		h.relisting.begun.close()
	}
}

// listed notes that the host was given the line, a list of the server's tools.
func (e *early) listed(line []byte) {
	h, result := e.answered.Load(), rawjson.Member(line, "result")
	if h != nil && rawjson.Member(result, "tools") != nil && rawjson.MemberText(result, "nextCursor") == "" {
		h.relisting.done.close()
	}
}

// awaitRelisted gives the host time to read the server's own tools after their change was
// announced. It reports whether the host has done so. The time is counted from the announcement, so
// that a host that never asks is waited for once.
func (e *early) awaitRelisted(ctx context.Context, h *opening) bool {
	r := &h.relisting
	if !e.signIn.hostInitialized() { // such a host is told of no change
		return r.done.isClosed()
	}
	// What is announced, and when, depends on what the server accepts.
	if !within(ctx, acceptWait+streamOpenWait, r.announced.c) {
		return r.done.isClosed()
	}
	if within(ctx, relistBegin-time.Since(r.announced.at), r.begun.c) && within(ctx, relistEnd-time.Since(r.announced.at), r.done.c) {
		pause(ctx, relistSettle-time.Since(r.done.at), nil)
	}
	return r.done.isClosed()
}

// toolsAreListed is what the sign-in tool says of a server whose tools the host has.
const toolsAreListed = " is connected. Its tools are in your list of tools: call them by their own names."

// connected is the answer of the sign-in tool to c when the server is reached. It holds the tools
// if the host has not read them. h is nil if the host has not sent initialize.
func (i *signIn) connected(c *call, h *opening) []byte {
	e, upstream := i.session.early, where(i.session.cfg.URL)
	if h == nil || e.answered.Load() != h || e.awaitRelisted(c.ctx, h) {
		return toolText(upstream + toolsAreListed)
	}
	head := upstream + " is connected, but its tools may not be in your list of tools."
	if i.session.hidden.hides(callTool) {
		return toolText(head + " If they are not, tell the person that a new session of this program has them.")
	}
	tools, err := e.readTools(c.ctx)
	switch {
	case h.relisting.done.isClosed(): // meanwhile
		return toolText(upstream + toolsAreListed)
	case err != nil:
		return toolText(fmt.Sprintf("%s The list of its tools could not be read: %s. Call %s again to read it.",
			head, clean(err.Error(), i.session.cfg.Mask, maxText), signInTool))
	}
	return toolText(toolsText(head, tools, rawjson.MemberText(c.Params, "arguments", "tool")))
}

// readTools reads the server's list of tools for us. It returns a raw array.
func (e *early) readTools(ctx context.Context) ([]byte, error) {
	list, params := []byte("[]"), []byte("{}")
	for range maxPages {
		line, err := e.askTools(ctx, params)
		if err != nil {
			return nil, err
		}
		result := rawjson.Member(line, "result")
		list = rawjson.Join(list, rawjson.Member(result, "tools"))
		next := rawjson.Member(result, "nextCursor")
		if len(next) == 0 || next[0] != '"' || len(next) == len(`""`) || len(list) > maxMemory {
			break
		}
		params = rawjson.ObjectOf("cursor", next)
	}
	return list, nil
}

// errUnwanted ends a request of our own that nobody waits for any more.
var errUnwanted = errors.New("nobody waits for it any more")

// askTools asks the server for a page of its tools, in the host's session. It returns the line that
// answers, without hidden tools.
func (e *early) askTools(ctx context.Context, params []byte) ([]byte, error) {
	s := e.session
	c := &call{arrived: time.Now()}
	c.ID, c.Method, c.Kind, c.Params = rawjson.Quote("sallyport-"+rand.Text()), "tools/list", rawjson.Request, params
	c.Raw, c.key = requestLine(c.ID, c.Method, params), rawjson.IDKey(c.ID)
	var answer []byte
	tooLong := false
	c.own = func(line []byte) {
		if !c.claim() {
			return
		}
		s.calls.remove(c)
		if tooLong = len(line) > maxMemory; !tooLong {
			answer = bytes.Clone(s.hidden.list(line))
		}
		s.calls.release(c)
	}
	if f := s.calls.enter(c); f != nil {
		return nil, f
	}
	defer context.AfterFunc(ctx, func() { c.cancel(errUnwanted) })()
	s.carry(c, func() error { return s.upstream.call(c) }) // enter has counted it
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case tooLong:
		return nil, errors.New("it is too long")
	case rawjson.Member(answer, "result") == nil:
		return nil, errors.New(shortText(rawjson.Member(answer, "error", "message")))
	}
	s.memory.rememberTools(c, answer) // the next session with this host shows them at once
	return answer, nil
}

// toolsText is what the sign-in tool says of the server's tools, a raw array, after the words in
// head. Where their schemas do not fit, it has names and descriptions, and the schema of the tool
// that is called wanted alone.
func toolsText(head string, tools []byte, wanted string) string {
	var full, brief, chosen strings.Builder
	left := 0
	for tool := range rawjson.Elements(tools) {
		name, description := rawjson.Member(tool, "name"), rawjson.Member(tool, "description")
		if len(name) == 0 || name[0] != '"' {
			continue
		}
		short := rawjson.ObjectOf("name", name)
		long := short
		if description != nil {
			short = rawjson.Set(short, rawjson.Quote(excerpt(oneLine(shortText(description)), maxToolBrief)), "description")
			long = rawjson.Set(long, description, "description")
		}
		if schema := rawjson.Member(tool, "inputSchema"); schema != nil {
			long = rawjson.Set(long, schema, "inputSchema")
		}
		if full.Len() <= maxToolsText {
			full.Write(append(long, '\n'))
		}
		if wanted != "" && rawjson.Text(name) == wanted && chosen.Len() == 0 && len(long) <= maxToolsText {
			chosen.Write(append(long, '\n'))
		}
		if left > 0 || brief.Len()+len(short) > maxToolsText {
			left++
			continue
		}
		brief.Write(append(short, '\n'))
	}
	switch {
	case full.Len() == 0:
		return head + " The server has no tools."
	case full.Len() <= maxToolsText:
		return head + " " + howToCall + "\nThe tools, as the server describes them, one JSON object on each line:\n\n" + full.String()
	case chosen.Len() > 0:
		return head + " " + howToCall + "\nThe tool, as the server describes it:\n\n" + chosen.String()
	}
	text := head + " " + howToCall + "\nThe tools, as the server describes them, one JSON object on each line. All their parameters would be too " +
		"long here. To see those of one tool, call " + signInTool + ` with {"tool":"NAME"}.` + "\n\n" + brief.String()
	if left > 0 {
		text += fmt.Sprintf("\n%d more tools are left out.\n", left)
	}
	return text
}

// howToCall says how a model calls a tool that its host has not listed.
const howToCall = "Call a tool that is not by " + callTool + `, with {"name":"NAME","arguments":{}}.`
