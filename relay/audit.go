package relay

import (
	"cmp"
	"strings"
	"time"

	"sallyport/relay/rawjson"
)

// Outcomes of an AuditEntry.
const (
	OutcomeOK            = "ok"
	OutcomeToolError     = "tool_error"     // the tool has answered that it failed
	OutcomeError         = "error"          // the server has answered with an error, or an HTTP status
	OutcomeInputRequired = "input_required" // the server asks a modern host for more
	OutcomeCancelled     = "cancelled"      // by the host
	OutcomeRefused       = "refused"        // by us; it was not sent
	OutcomeNoAnswer      = "no_answer"      // of the server; the error is ours
)

// maxAudited is how many characters of a text of a peer an AuditEntry has.
const maxAudited = 256

// AuditEntry is one request of the host for something that acts or brings content: tools/call,
// resources/read or prompts/get. It has no arguments and no results.
type AuditEntry struct {
	// Time is when the request came, and Duration until its end.
	Time     time.Time
	Duration time.Duration
	// Method is the JSON-RPC method.
	Method string
	// Name is the name of the tool or the prompt, or the URI of the resource without its query and
	// fragment.
	Name string
	// Outcome is one of the Outcome constants.
	Outcome string
	// Code is that of the JSON-RPC error, or 0. Kind is the stable word of an error of ours, or "".
	Code int
	Kind string
	// TraceID is that of the traceparent in _meta (W3C Trace Context), or "".
	TraceID string
	// Client is the name that the host has given itself, or "".
	Client string
}

// audited reports whether a request of the given method has an AuditEntry.
func audited(method string) bool {
	return method == "tools/call" || method == "resources/read" || method == "prompts/get"
}

// audit hands on what has become of c: it is answered with line, or refused or failed with f. If
// both are nil, the host has cancelled it.
func (s *session) audit(c *call, line []byte, f *fault, refused bool) {
	if s.cfg.Audit == nil || c.own != nil || !audited(c.Method) {
		return
	}
	e := AuditEntry{
		Time: c.arrived, Duration: time.Since(c.arrived), Method: c.Method,
		TraceID: traceID(rawjson.MemberText(c.Params, "_meta", "traceparent")),
		Client:  excerpt(cmp.Or(clientName(rawjson.Member(c.Params, "_meta", metaPrefix+"clientInfo")), clientName(s.early.hostInfo())), maxAudited),
	}
	if c.Method == "resources/read" {
		e.Name, _, _ = strings.Cut(shortText(rawjson.Member(c.Params, "uri")), "?")
		e.Name, _, _ = strings.Cut(e.Name, "#")
	} else {
		e.Name = shortText(rawjson.Member(c.Params, "name"))
	}
	e.Name = excerpt(e.Name, maxAudited)
	switch {
	case f != nil:
		e.Outcome, e.Code, e.Kind = OutcomeNoAnswer, f.code, f.kind
		switch {
		case refused:
			e.Outcome = OutcomeRefused
		case f.code == codeStatus:
			e.Outcome = OutcomeError
		}
	case line == nil:
		e.Outcome = OutcomeCancelled
	default:
		e.Outcome, e.Code = outcomeOf(line)
	}
	s.cfg.Audit(e)
}

// outcomeOf reads the answer of the server.
func outcomeOf(line []byte) (outcome string, code int) {
	result := rawjson.Member(line, "result")
	switch {
	case result == nil:
		return OutcomeError, errorCode(rawjson.Message{Raw: line})
	case string(rawjson.Member(result, "isError")) == "true":
		return OutcomeToolError, 0
	case rawjson.MemberText(result, "resultType") == "input_required":
		return OutcomeInputRequired, 0
	}
	return OutcomeOK, 0
}

// hostInfo returns the raw clientInfo of the host's initialize, or nil.
func (e *early) hostInfo() []byte {
	if h := e.opening(); h != nil {
		return rawjson.Member(h.call.Params, "clientInfo")
	}
	return nil
}

// traceID returns the trace ID in the text of a traceparent, or "" if it is none.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(traceparent) > maxAudited || len(parts) < 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0123456789abcdef") != "" {
		return ""
	}
	return parts[1]
}

// clientName returns the name in the raw clientInfo.
func clientName(info []byte) string { return shortText(rawjson.Member(info, "name")) }
