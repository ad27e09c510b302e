package relay

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"

	"sallyport/relay/rawjson"
)

// wantedInput is what a server wants to know before it answers a call (InputRequiredResult).
type wantedInput struct {
	// keys are the server's names of its questions. methods and params belong to them.
	keys    []string
	methods []string
	params  [][]byte
	// asks says that there were inputRequests, even if there is no question in them.
	asks bool
	// state is the raw requestState. Nil means that there is none.
	state []byte
}

// wantedInputIn reads an answer that asks for input, to a host with the given raw capabilities. It
// returns nil for a complete answer. An answer of another kind belongs to an extension, such as
// that of tasks. It is complete for a host that has declared extensions.
func wantedInputIn(a rawjson.Message, capabilities []byte) (*wantedInput, error) {
	extensions := rawjson.Member(capabilities, "extensions")
	switch kind := rawjson.Member(a.Result, "resultType"); {
	case len(kind) == 0:
		return nil, nil // complete
	case kind[0] == '"' && rawjson.Text(kind) == "complete":
		return nil, nil
	case kind[0] == '"' && rawjson.Text(kind) != "input_required" && len(extensions) > len("{}") && extensions[0] == '{':
		return nil, nil
	case kind[0] != '"' || rawjson.Text(kind) != "input_required":
		return nil, noAnswer("the answer is of a kind that the host does not know: " + strconv.Quote(excerpt(string(kind[:min(len(kind), maxShown)]), 80)))
	}
	w := &wantedInput{state: bytes.Clone(rawjson.Member(a.Result, "requestState"))}
	requests := rawjson.Member(a.Result, "inputRequests")
	w.asks = len(requests) > 0 && requests[0] == '{'
	for key, val := range rawjson.Members(requests) {
		method := rawjson.MemberText(val, "method")
		switch method {
		case "elicitation/create", "sampling/createMessage", "roots/list":
		default:
			return nil, noAnswer(fmt.Sprintf("the server asks for %q, which is no input", excerpt(method, 64)))
		}
		if len(w.keys) == maxQuestions {
			return nil, noAnswer(fmt.Sprintf("the server asks more than %d questions at once", maxQuestions))
		}
		w.keys = append(w.keys, key)
		w.methods = append(w.methods, method)
		w.params = append(w.params, bytes.Clone(rawjson.Member(val, "params")))
	}
	if !w.asks && w.state == nil {
		return nil, noAnswer("the server asks for input and does not say which")
	}
	return w, nil
}

// questions are the requests that the bridge has sent to the host and that are not answered yet.
type questions struct {
	*modern

	mu sync.Mutex
	// asked has where the answers go, by the key of the request's id.
	asked map[string]chan rawjson.Message
}

// ask puts all that w wants to the host, and returns the raw inputResponses, or nil if w asks
// nothing. When it fails, it withdraws the questions that are still open.
func (q *questions) ask(c *call, w *wantedInput) ([]byte, error) {
	if !w.asks {
		return nil, nil
	}
	ids, answers := make([][]byte, len(w.keys)), make([]chan rawjson.Message, len(w.keys))
	for i := range w.keys {
		ids[i], answers[i] = q.newID(), make(chan rawjson.Message, 1)
		q.mu.Lock()
		q.asked[rawjson.IDKey(ids[i])] = answers[i]
		q.mu.Unlock()
		q.host.toHost(rawjson.Message{Kind: rawjson.Request, Raw: requestLine(ids[i], w.methods[i], w.params[i])})
	}
	out := []byte("{}")
	var err error
	for i, answer := range answers {
		if err == nil {
			var result []byte
			if result, err = q.wait(c, answer, w.methods[i]); err == nil {
				out = rawjson.Set(out, result, w.keys[i])
				continue
			}
		}
		q.mu.Lock()
		_, open := q.asked[rawjson.IDKey(ids[i])]
		delete(q.asked, rawjson.IDKey(ids[i]))
		q.mu.Unlock()
		if open {
			q.host.toHost(cancelNotification(ids[i], "the request that needed it has ended"))
		}
	}
	return out, err
}

// wait waits for the host's answer to one question and returns its raw result.
func (q *questions) wait(c *call, answer chan rawjson.Message, method string) ([]byte, error) {
	select {
	case a := <-answer:
		q.host.keepAlive(c)
		if a.Result == nil {
			return nil, newFault(codeTransport, "input", fmt.Sprintf("the host answered the server's %s with the error %q",
				method, excerpt(shortText(rawjson.Member(a.Raw, "error", "message")), 200)))
		}
		return a.Result, nil
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

// answer gives the host's answer to whoever asked, and reports whether somebody did.
func (q *questions) answer(a rawjson.Message) bool {
	key := rawjson.IDKey(a.ID)
	q.mu.Lock()
	asked := q.asked[key]
	delete(q.asked, key)
	q.mu.Unlock()
	if asked == nil {
		return false
	}
	asked <- a
	return true
}
