package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"sallyport/relay/rawjson"
)

// maxListed is how many bytes the tools may have that ListTools returns.
const maxListed = 64 << 20

// ListTools asks the upstream for its tools in a session of its own. It says that it has the
// capabilities of all hosts, because some servers hide tools from a host that lacks one. It returns
// them as a raw array, without those that a host does not see: those of cfg.IgnoreTools, those with
// a name of ours and those with an invalid mark.
//
// Of cfg it uses what Run uses, except In, Out, Obstacle, Load, Save and PinTools: it waits for
// nobody, and remembers nothing. It signs somebody in only if cfg.Send does. The error is a
// *ProbeError.
func ListTools(ctx context.Context, cfg Config) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hostIn, in := io.Pipe()
	out, hostOut := io.Pipe()
	cfg.In, cfg.Out = hostIn, hostOut
	cfg.Obstacle, cfg.Answered, cfg.Load, cfg.Save, cfg.Update, cfg.PinTools = nil, nil, nil, nil, nil, false
	cfg.setDefaults()
	cfg.InitPatience = 2 * cfg.Timeout // no early answer
	ended := make(chan error, 1)
	go func() { // ends with In
		err := Run(ctx, cfg)
		hostOut.CloseWithError(io.EOF)
		ended <- err
	}()
	l := &lister{in: in, lines: newLineReader(out, cfg.maxMessage)}
	tools, err := l.list()
	in.Close()
	go io.Copy(io.Discard, out) // ends with Run
	final := <-ended
	switch {
	case ctx.Err() != nil:
		return nil, &ProbeError{Kind: kindClosed, Text: context.Cause(ctx).Error(), Err: context.Cause(ctx)}
	case err != nil && final != nil:
		return nil, &ProbeError{Kind: kindClosed, Text: final.Error(), Err: final}
	case err != nil:
		if _, known := errors.AsType[*ProbeError](err); !known {
			err = &ProbeError{Kind: kindClosed, Text: err.Error(), Err: err}
		}
		return nil, err
	}
	return tools, nil
}

// lister plays the host of ListTools.
type lister struct {
	in    io.Writer
	lines *lineReader
	asked int
}

// list opens the session and reads all pages of the list.
func (l *lister) list() ([]byte, error) {
	_, err := l.ask("initialize", []byte(`{"protocolVersion":"`+legacyVersion+`","capabilities":`+
		`{"roots":{"listChanged":true},"sampling":{},"elicitation":{"form":{},"url":{}}},"clientInfo":{"name":"sallyport","version":"0"}}`))
	if err != nil {
		return nil, err
	}
	if err := l.write(ownNotification(methodInitialized, nil).Raw); err != nil {
		return nil, err
	}
	list, params := []byte("[]"), []byte("{}")
	for range maxPages {
		result, err := l.ask("tools/list", params)
		if err != nil {
			return nil, err
		}
		list = rawjson.Join(list, rawjson.Member(result, "tools"))
		next := rawjson.Member(result, "nextCursor")
		switch {
		case len(list) > maxListed:
			return nil, &ProbeError{Kind: "too_large", Text: fmt.Sprintf("the list of tools is longer than %d MiB", maxListed>>20)}
		case len(next) == 0 || next[0] != '"' || len(next) == len(`""`):
			return list, nil
		}
		params = rawjson.ObjectOf("cursor", next)
	}
	return nil, &ProbeError{Kind: "too_large", Text: fmt.Sprintf("the list of tools has more than %d pages", maxPages)}
}

func (l *lister) write(line []byte) error {
	_, err := l.in.Write(append(bytes.Clone(line), '\n'))
	return err
}

// ask sends a request and returns the result. Requests of the server are refused meanwhile.
func (l *lister) ask(method string, params []byte) (result []byte, err error) {
	l.asked++
	id := rawjson.Quote(fmt.Sprintf("list-%d", l.asked))
	if err := l.write(requestLine(id, method, params)); err != nil {
		return nil, err
	}
	for {
		line, err := l.lines.next()
		if err != nil {
			return nil, err
		}
		m, err := rawjson.Parse(line)
		if err != nil {
			return nil, err
		}
		switch {
		case m.Kind == rawjson.Request:
			refusal := newFault(codeNoMethod, "no_method", "not here").line(m.ID, func(s string) string { return s })
			if err := l.write(refusal); err != nil {
				return nil, err
			}
		case !isAnswer(m, rawjson.IDKey(id)):
		case rawjson.Member(m.Raw, "error") != nil:
			return nil, probeErrorIn(rawjson.Member(m.Raw, "error"))
		default:
			return bytes.Clone(rawjson.Member(m.Raw, "result")), nil
		}
	}
}

// probeErrorIn returns the raw error of an answer.
func probeErrorIn(raw []byte) *ProbeError {
	text, _, _ := strings.Cut(rawjson.MemberText(raw, "message"), "; hint: ")
	e := &ProbeError{Kind: rawjson.MemberText(raw, "data", "kind"), Text: text, Hints: rawjson.Texts(rawjson.Member(raw, "data", "hints"), maxQuestions)}
	fmt.Sscan(string(rawjson.Member(raw, "data", "status")), &e.Status)
	return e
}
