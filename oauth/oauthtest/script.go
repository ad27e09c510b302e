package oauthtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// youngFor is how long an access token is young.
const youngFor = 2 * time.Second

// script is the rules that a server follows now.
type script struct {
	rules []Rule
	// met counts for each rule the requests that fitted.
	met   []int
	asked map[Place]int
}

// count counts a request, and reports whether there are rules. It runs under the server's lock.
func (s *script) count(at Place) (scripted bool) {
	if s.asked == nil {
		s.asked = make(map[Place]int)
	}
	s.asked[at]++
	return len(s.rules) > 0
}

// find returns the rule that counts for a request, or nil. It runs under the server's lock.
func (s *script) find(at Place, facts map[string]string) *Rule {
	for i := range s.rules {
		r := &s.rules[i]
		if r.At != Anywhere && r.At != at || !r.fits(facts) {
			continue
		}
		s.met[i]++
		if n := s.met[i] - r.Skip; n > 0 && (r.Times == 0 || n <= r.Times) {
			return r
		}
	}
	return nil
}

func (r *Rule) fits(facts map[string]string) bool {
	for _, condition := range r.When {
		opposite, not := strings.CutPrefix(condition, "!")
		if holds(opposite, facts) == not {
			return false
		}
	}
	return true
}

func holds(condition string, facts map[string]string) bool {
	i := strings.IndexAny(condition, "=~")
	if i < 0 {
		return facts[condition] != ""
	}
	value := facts[condition[:i]]
	if condition[i] == '=' {
		return value == condition[i+1:]
	}
	return strings.Contains(value, condition[i+1:])
}

// played is a request at a place, to a server that follows a script.
type played struct {
	*Server
	at Place
}

// serve answers the request by the script, or by next where no rule counts.
func (s played) serve(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	var scripted bool
	s.locked(func() { scripted = s.script.count(s.at) })
	if !scripted {
		next(w, r)
		return
	}
	facts := requestFacts(r)
	var rule *Rule
	s.locked(func() {
		s.bookFacts(facts)
		rule = s.script.find(s.at, facts)
	})
	if rule == nil {
		next(w, r)
		return
	}
	if rule.Delay > 0 {
		select {
		case <-time.After(rule.Delay):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	a := rule.start(r, next)
	if rule.Reset {
		panic(http.ErrAbortHandler)
	}
	vars := s.variables(facts, a.body)
	a.change(rule, func(text string) string { return os.Expand(text, vars) })
	a.send(w, rule.Truncate)
}

// requestFacts returns what conditions and variables may name: the parameters or the JSON members
// of a request, and the facts that Rule.When lists.
func requestFacts(r *http.Request) map[string]string {
	facts := make(map[string]string)
	for name, values := range r.URL.Query() {
		facts[name] = strings.Join(values, " ")
	}
	var body []byte
	if r.Body != nil { // it is nil in a request that did not come by the network
		body, _ = io.ReadAll(io.LimitReader(r.Body, maxForm))
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), r.Body), r.Body}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, _ := url.ParseQuery(string(body)) // what cannot be read is no parameter
		for name, values := range form {
			facts[name] = strings.Join(values, " ")
		}
	}
	var members map[string]any
	if json.Unmarshal(body, &members) == nil {
		for name, v := range members {
			facts[name] = strings.Trim(fmt.Sprint(v), "[]")
		}
	}
	for name := range r.Header {
		facts["header."+name] = r.Header.Get(name)
	}
	facts["http"], facts["host"] = r.Method, r.Host
	facts["path"], facts["query"] = r.URL.Path, r.URL.RawQuery
	_, facts["bearer"], _ = strings.Cut(r.Header.Get("Authorization"), " ")
	return facts
}

// bookFacts adds what the server remembers, and replaces the token of a request by what the server
// knows of it. It runs under the server's lock.
func (s played) bookFacts(facts map[string]string) {
	for name, v := range s.seen.registered {
		facts["registered."+name] = strings.Trim(fmt.Sprint(v), "[]")
	}
	for name := range s.seen.authorized {
		facts["authorized."+name] = s.seen.authorized.Get(name)
	}
	now, token := s.now(), facts["bearer"]
	switch g := s.book.access[token]; {
	case token == "":
		facts["bearer"] = "none"
	case !g.valid(now):
		facts["bearer"] = "dead"
	case now.Sub(g.issued) < youngFor:
		facts["bearer"] = "young"
	default:
		facts["bearer"] = "live"
	}
	if g := s.book.refresh[facts["refresh_token"]]; g != nil {
		facts["access"] = "dead"
		if g.valid(now) {
			facts["access"] = "live"
		}
	}
}

// variables returns the values of the variables in a rule's texts. document is the server's answer.
func (s played) variables(facts map[string]string, document []byte) func(name string) string {
	issuer, _ := url.Parse(s.Issuer)
	resource, _ := url.Parse(s.Resource)
	var answer map[string]json.RawMessage
	json.Unmarshal(document, &answer) // no object has no members
	metadata := httptest.NewRecorder()
	s.locked(func() { reply(metadata, http.StatusOK, call{Server: s.Server}.metadata()) })
	vars := map[string]string{
		"issuer": s.Issuer, "home": issuer.Scheme + "://" + issuer.Host,
		"upstream": s.Resource, "origin": resource.Scheme + "://" + resource.Host,
		"down": "https://down.test", "answer": strings.TrimSpace(string(document)),
		"metadata": strings.TrimSpace(metadata.Body.String()),
	}
	return func(name string) string {
		if member, ok := strings.CutPrefix(name, "answer."); ok {
			var text string
			if json.Unmarshal(answer[member], &text) == nil {
				return text
			}
			return string(answer[member])
		}
		if parameter, ok := strings.CutPrefix(name, "request."); ok {
			return facts[parameter]
		}
		return vars[name]
	}
}

// answer is an answer before it is sent.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// start returns the answer of the server, if it acts, or an empty one.
func (r *Rule) start(req *http.Request, next http.HandlerFunc) *answer {
	instead := r.Status != 0 || r.Body != "" || r.Redirect != "" || r.Reset
	edits := len(r.Set)+len(r.Drop) > 0 || strings.Contains(strings.ReplaceAll(r.Body, "{", ""), "$answer")
	if instead && !edits && !r.Acts {
		return &answer{status: http.StatusOK, header: make(http.Header)}
	}
	rec := httptest.NewRecorder()
	next(rec, req)
	return &answer{rec.Code, rec.Header(), rec.Body.Bytes()}
}

// change changes the answer as r says.
func (a *answer) change(r *Rule, expand func(string) string) {
	for _, path := range r.Drop {
		a.body = edit(a.body, strings.Split(path, "."), nil)
	}
	for path, member := range r.Set {
		a.body = edit(a.body, strings.Split(path, "."), json.RawMessage(expand(member)))
	}
	if r.Redirect != "" {
		a.status = http.StatusFound
		a.header.Set("Location", expand(r.Redirect))
	}
	if r.Status != 0 {
		a.status = r.Status
	}
	if r.Body != "" || r.Status >= 300 && !r.Acts {
		a.body = []byte(expand(r.Body))
		if kind := "text/html; charset=utf-8"; r.Body != "" {
			if a.body[0] == '{' || a.body[0] == '[' {
				kind = "application/json"
			}
			a.header.Set("Content-Type", kind)
		}
	}
	if r.Type != "" {
		a.header.Set("Content-Type", r.Type)
	}
	for name, value := range r.Header {
		if value = expand(value); value == "" {
			a.header.Del(name)
		} else {
			a.header.Set(name, value)
		}
	}
}

// send sends the answer, or its first bytes only.
func (a *answer) send(w http.ResponseWriter, truncate int) {
	maps.Copy(w.Header(), a.header)
	cut := truncate > 0 && truncate < len(a.body)
	if cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		a.body = a.body[:truncate]
	}
	w.WriteHeader(a.status)
	w.Write(a.body)
	if cut {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// edit sets the member at path of a JSON object. A nil member removes it. What is no object stays
// as it is.
func edit(document []byte, path []string, member json.RawMessage) []byte {
	var object map[string]json.RawMessage
	if json.Unmarshal(document, &object) != nil || object == nil {
		return document
	}
	switch {
	case len(path) > 1:
		object[path[0]] = edit(object[path[0]], path[1:], member)
	case member == nil:
		delete(object, path[0])
	default:
		object[path[0]] = member
	}
	b, err := json.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("oauthtest: rule sets %s to %s, which is not JSON", path, member))
	}
	return b
}
