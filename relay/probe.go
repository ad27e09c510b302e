package relay

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"

	"sallyport/relay/rawjson"
)

// Eras of the protocol, as Probe finds them.
const (
	// EraLegacy is that of the revisions up to 2025-11-25, which open a session with initialize.
	EraLegacy = string(legacyEra)
	// EraModern is that of 2026-07-28, which has no sessions.
	EraModern = string(modernEra)
)

// Found is what Probe finds out about an upstream.
type Found struct {
	// Era is EraLegacy or EraModern.
	Era string
	// Transport is TransportHTTP or TransportSSE.
	Transport string
	// Version is the revision of the protocol that the relay and the upstream would speak.
	Version string
	// Versions are all modern revisions that the upstream says it speaks. It is empty for a legacy
	// upstream.
	Versions []string
	// ServerName and ServerVersion are what the upstream calls itself. They are "" if it does not
	// say.
	ServerName, ServerVersion string
}

// Step is one HTTP request of Probe.
type Step struct {
	// Method is the HTTP method.
	Method string
	// Call is the method in the JSON-RPC message that was sent. It is "" for a GET or a DELETE.
	Call string
	// URL is where the request went, without user, query and fragment.
	URL string
	// Status is the HTTP status. 0 means that there was no response.
	Status int
	// Outcome is one line that says what the step has shown. Secrets are masked in it.
	Outcome string
	// Err is the error of the RoundTripper. It is nil if there was a response.
	Err error
}

// ProbeError says why Probe could not find out what an upstream speaks.
type ProbeError struct {
	// Kind is a stable word, as that of an Obstacle.
	Kind string
	// Text is one line. Secrets are masked in it.
	Text string
	// Hints say what to do next, one line each.
	Hints []string
	// Status is the HTTP status that the upstream has refused with. 0 means that it was something
	// else.
	Status int
	// Err is the error of the RoundTripper, or the cause of the context. It is nil if the upstream
	// has answered.
	Err error
}

func (e *ProbeError) Error() string { return e.Text }

func (e *ProbeError) Unwrap() error { return e.Err }

// Probe finds out which form of the protocol the upstream speaks, in the way that Run does it for a
// host that has never used this upstream. It asks with server/discover. If that shows a legacy
// upstream, Probe opens a session with an initialize of its own and ends it again.
//
// Of cfg it uses URL, Header, Send, Background, Transport, ProtocolVersion, Version, Timeout,
// Obstacle, Explain, Mask and Log. It remembers nothing, and looks at nothing remembered. As long
// as cfg.Obstacle has an obstacle that may pass, a request that cannot be sent waits for it; ctx
// bounds the whole.
//
// Probe calls step for each request, in order, when it knows what that has shown. A nil step is
// fine. The error is a *ProbeError, which wraps the error of cfg.Send if there was one. Probe may
// be called concurrently. When it returns, all its goroutines and requests have ended.
func Probe(ctx context.Context, cfg Config, step func(Step)) (Found, error) {
	if step == nil {
		step = func(Step) {}
	}
	cfg.Load, cfg.Save, cfg.KeepAlive = nil, nil, 0
	r := newRun(ctx, cfg)
	defer r.work.Wait()
	defer r.end(errClosing)
	p := &prober{run: r, tell: step}
	cl := &client{run: r, host: nobody{}, obstacles: &obstacles{run: r, giveUp: func(*Obstacle) {}}, onRequest: p.note}
	modern := &modern{client: cl}
	found, err := p.find(&eras{client: cl, modern: modern}, newLegacy(cl))
	if err == nil {
		return found, nil
	}
	p.flush("")
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	e := &ProbeError{Kind: "unreachable", Text: clean(err.Error(), r.cfg.Mask, maxText), Err: err}
	if f, ok := errors.AsType[*fault](err); ok {
		e.Kind, e.Hints, e.Status, e.Err = f.kind, f.hints, f.status, f.cause
	}
	return Found{}, e
}

// prober is one Probe.
type prober struct {
	*run
	tell func(Step)

	mu sync.Mutex
	// steps are those that tell has not been called with yet.
	steps []Step
}

// find asks for the era, and opens a session if that is not modern.
func (p *prober) find(e *eras, l *legacy) (Found, error) {
	who := identity{info: encode(map[string]string{"name": "sallyport", "version": p.cfg.Version})}
	if p.cfg.Transport != TransportSSE {
		d, err := e.discover(p.ctx, who, true, p.sessionSender)
		switch {
		case err == nil && d.era == modernEra:
			p.flush("speaks " + modernVersions[0])
			return p.modern(d), nil
		case err == nil:
			p.flush("is not the answer of a server of " + modernVersions[0])
		case isStatus(err):
			p.flush("says nothing of the protocol")
		case d.allowsInitialize():
			p.flush("")
		default:
			return Found{}, err
		}
	}
	return p.legacy(l, who)
}

// modern reads a DiscoverResult.
func (p *prober) modern(d *discovery) Found {
	info := rawjson.Member(d.result, "_meta", metaPrefix+"serverInfo")
	if info == nil {
		info = rawjson.Member(d.result, "serverInfo")
	}
	return Found{Era: EraModern, Transport: TransportHTTP, Version: modernVersions[0],
		Versions:   rawjson.Texts(rawjson.Member(d.result, "supportedVersions"), maxVersions),
		ServerName: rawjson.MemberText(info, "name"), ServerVersion: rawjson.MemberText(info, "version")}
}

// legacy opens a session and ends it.
func (p *prober) legacy(l *legacy, who identity) (Found, error) {
	init := rawjson.Message{Kind: rawjson.Request, ID: []byte("0"), Method: "initialize"}
	init.Params = rawjson.ObjectOf("protocolVersion", rawjson.Quote(legacyVersion))
	init.Params = rawjson.Set(init.Params, []byte("{}"), "capabilities")
	init.Params = rawjson.Set(init.Params, who.info, "clientInfo")
	init.Raw = requestLine(init.ID, init.Method, init.Params)
	ctx, cancel := context.WithTimeoutCause(p.ctx, p.cfg.Timeout, timeoutFault(p.cfg.Timeout))
	defer cancel()
	var found Found
	var refusal error
	key := rawjson.IDKey(init.ID)
	err := l.open(ctx, new(phase), init, func(sess upstreamSession, m rawjson.Message) bool {
		switch {
		case !isAnswer(m, key):
			return false
		case m.Result == nil:
			refusal = sessionRefused(m.Raw)
		default:
			found = Found{Era: EraLegacy, Transport: TransportHTTP,
				Version:       rawjson.MemberText(m.Result, "protocolVersion"),
				ServerName:    rawjson.MemberText(m.Result, "serverInfo", "name"),
				ServerVersion: rawjson.MemberText(m.Result, "serverInfo", "version")}
			l.begin(init, sess, m)
			if sess.push != nil {
				found.Transport = TransportSSE
			} else {
				cancel() // nobody waits for the rest of the response
			}
		}
		return true
	})
	switch {
	case found.Era != "":
		p.flush("opens a session of " + excerpt(found.Version, 64))
		l.goodbye(p.ctx)
		p.flush("ends the session")
		return found, nil
	case refusal != nil:
		return Found{}, refusal
	case err == nil:
		err = noAnswer(where(p.cfg.URL) + ": no answer to initialize")
	}
	return Found{}, err
}

// note notes one request and what came of it. It is the onRequest of the prober's server.
func (p *prober) note(r httpRequest, target *url.URL, resp *http.Response, err error) {
	s := Step{Method: r.method, Call: rawjson.MemberText(r.body, "method"), URL: where(target), Err: err}
	if resp != nil {
		s.Status = resp.StatusCode
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, s)
}

// flush tells of the requests so far. The last one has the given outcome, and the others what their
// error or status says, which "" stands for, too.
func (p *prober) flush(outcome string) {
	p.mu.Lock()
	steps := p.steps
	p.steps = nil
	p.mu.Unlock()
	for i, s := range steps {
		switch {
		case i == len(steps)-1 && outcome != "":
			s.Outcome = outcome
		case s.Err != nil:
			s.Outcome = s.Err.Error()
		case s.Status/100 == 3:
			s.Outcome = "sends the request to another URL"
		default:
			s.Outcome = statusText(s.Status)
		}
		s.Outcome = clean(s.Outcome, p.cfg.Mask, maxText)
		p.tell(s)
	}
}

// nobody is the host of a Probe: what the server sends without being asked goes nowhere.
type nobody struct{}

func (nobody) answer(*call, []byte) bool   { return false }
func (nobody) toHost(rawjson.Message)      {}
func (nobody) outOfStream(rawjson.Message) {}
func (nobody) keepAlive(*call)             {}
func (nobody) lastsForever(*call)          {}

// isStatus reports whether err is a refusal by HTTP status.
func isStatus(err error) bool {
	f, ok := errors.AsType[*fault](err)
	return ok && f.kind == "status"
}
