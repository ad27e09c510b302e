package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/relay"
)

// accountRows makes the rows of the store, the token and the revision of MCP.
type accountRows struct{ *walk }

// probeLimit bounds the question which revision of MCP the upstream speaks.
const probeLimit = 30 * time.Second

// tell looks at the store and the token, and asks the upstream for its revision of MCP.
func (w accountRows) tell(ctx context.Context) {
	w.begin(idStore)
	w.tellStore()
	if w.s == nil {
		w.skipAll(w.why, idToken, idAccepted, idMCP)
		return
	}
	w.begin(idToken)
	token := w.tellToken()
	switch {
	case w.met == nil || w.met.status == 0:
		w.skipAll("the upstream is not reached", idAccepted, idMCP)
	case w.found.open:
		w.skip(idAccepted, "no token is needed")
		w.begin(idMCP)
		w.tellMCP(w.probe(ctx, w.s.Parts.Bare()))
	case token == nil:
		w.skip(idAccepted, "there is no token to show")
		w.begin(idMCP)
		w.tellUnsigned(w.probe(ctx, w.s.Parts.Bare()))
	default:
		w.begin(idAccepted)
		w.tellSigned(w.probe(ctx, token))
	}
}

// tellStore makes the rows of the directory and the key.
func (w accountRows) tellStore() {
	settings := w.Command.Store
	if settings.TokenStore == "memory" {
		w.skipAll("--token-store memory keeps nothing", idStore, idKey)
		return
	}
	dir := session.StateDir(settings, w.Env)
	store, err := session.LookAtStore(settings, w.Env, w.Log)
	if errors.Is(err, fs.ErrNotExist) {
		w.tellMissing(dir)
		return
	}
	if _, usage := errors.AsType[*cli.UsageError](err); usage { // of --token-store keyring
		w.skip(idStore, "the keyring comes first")
		w.fail(idKey, err)
		return
	}
	if err != nil {
		w.failStore(err)
		w.skip(idKey, "the store is not used")
		return
	}
	if err := writable(dir); err != nil {
		w.failStore(fmt.Errorf("%s cannot be written to: %w", dir, err))
		w.skip(idKey, "the store cannot be written")
		return
	}
	values, err := store.Values()
	if err != nil {
		w.add(Check{ID: idStore, Result: Warn, Summary: err.Error(), Next: []string{"what cannot be read is signed in anew at the next use"}})
	} else {
		w.ok(idStore, fmt.Sprintf("%s: %s", dir, count(len(values), "account")))
	}
	w.begin(idKey)
	inFile, inRing := store.KeyPlaces()
	switch {
	case inRing:
		w.ok(idKey, "in the system's keyring")
	case inFile:
		w.ok(idKey, "in the file "+filepath.Join(w.Env.ConfigDir(), "store.key"))
	case len(values) == 0:
		w.skip(idKey, "there is none yet: the first sign-in makes it")
	default:
		w.skip(idKey, "it is not found")
	}
}

// failStore makes the row of a store that is not used.
func (w accountRows) failStore(err error) {
	w.failWith(idStore, explain.Explanation{Kind: explain.KindOther, Status: explain.StatusFailed, Text: err.Error() + ": tokens would end with each process",
		Hints: []string{"chmod and chown the directory so that it is yours alone, or name another place: --state-dir DIR"}})
}

// tellMissing makes the rows of a store that the first sign-in makes.
func (w accountRows) tellMissing(dir string) {
	for _, path := range []string{dir, w.Env.ConfigDir()} {
		parent := path
		for {
			if _, err := os.Stat(parent); err == nil || parent == filepath.Dir(parent) {
				break
			}
			parent = filepath.Dir(parent)
		}
		if err := writable(parent); err != nil {
			w.failStore(fmt.Errorf("%s cannot be made in %s: %w", path, parent, err))
			w.skip(idKey, "there is no store")
			return
		}
	}
	w.ok(idStore, dir+" is not there yet: the first sign-in makes it")
	w.skip(idKey, "there is none yet: the first sign-in makes it")
}

// tellToken makes the row of the stored token. It returns what shows the token to the upstream, or
// nil if there is none that is good by the clock.
func (w accountRows) tellToken() http.RoundTripper {
	if w.found.open {
		w.skip(idToken, "no token is needed")
		return nil
	}
	if !w.attended() {
		w.skip(idToken, "tokens of this grant are fetched at each start, and nobody is asked")
		return nil
	}
	account, send := w.s.SignIn.Stored()
	w.signedIn = account.SignedIn || account.Refreshable
	now, renewed := time.Now(), "then somebody has to sign in"
	if account.Refreshable {
		renewed = "then it is renewed by itself"
	}
	who := "signed in"
	if account.Name != "" {
		who += " as " + account.Name
	}
	switch {
	case account.Problem != "":
		w.add(Check{ID: idToken, Result: Warn, Summary: "not signed in any more: " + account.Problem,
			Next: []string{"sallyport login URL, in a terminal, signs in again; a proxy does so at its next call"}})
	case !w.signedIn:
		w.skip(idToken, "not signed in: the first use opens the login page", "sallyport login, with the same settings in a terminal, signs in now")
	case account.Expired(now) && account.Refreshable, !account.SignedIn:
		w.ok(idToken, who+"; the access token has expired, and the next use renews it")
	case account.Expired(now):
		w.add(Check{ID: idToken, Result: Warn, Summary: who + "; the token has expired, and nothing renews it",
			Next: []string{"sallyport login URL, in a terminal, signs in again; a proxy does so at its next call"}})
	case account.Expiry.IsZero():
		w.ok(idToken, who+"; the server does not say until when; "+renewed)
		return send
	default:
		w.ok(idToken, fmt.Sprintf("%s until %s (%s); %s", who, account.Expiry.Local().Format(time.DateTime), account.Expiry.Sub(now).Round(time.Second), renewed))
		return send
	}
	return nil
}

// probed is what the upstream speaks.
type probed struct {
	found relay.Found
	steps []string
	err   *relay.ProbeError
}

// probe asks the upstream which revision of MCP it speaks.
func (w accountRows) probe(ctx context.Context, send http.RoundTripper) probed {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	var p probed
	var err error
	p.found, err = relay.Probe(ctx, relay.Config{
		URL: w.s.Upstream, Header: w.s.Header, Send: send, Transport: w.Command.Transport, ProtocolVersion: w.Command.ProtocolVersion,
		Version: w.Env.Version, Timeout: probeLimit, Mask: w.s.Mask, Log: w.Log,
		Explain: func(err error) relay.Explanation {
			e := w.Words.Error(err)
			return relay.Explanation{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Final: e.Final, NotRun: e.NotRun}
		},
	}, func(s relay.Step) {
		line := s.Method + " " + s.URL
		if s.Call != "" {
			line = s.Call + " by " + line
		}
		p.steps = append(p.steps, fmt.Sprintf("%s: %d, %s", line, s.Status, s.Outcome))
	})
	p.err, _ = errors.AsType[*relay.ProbeError](err)
	return p
}

// tellMCP makes the row of an upstream that has been asked for its revision.
func (w accountRows) tellMCP(p probed) {
	if p.err != nil {
		w.failWith(idMCP, w.probeWords(p.err), p.steps...)
		return
	}
	what := fmt.Sprintf("%s by %s", p.found.Version, transportWords[p.found.Transport])
	if p.found.ServerName != "" {
		what += fmt.Sprintf(", server %q %s", p.found.ServerName, p.found.ServerVersion)
	}
	if len(p.found.Versions) > 0 {
		p.steps = append(p.steps, "it speaks "+join(p.found.Versions, ", "))
	}
	w.ok(idMCP, "speaks MCP "+what, p.steps...)
}

// transportWords name the transports.
var transportWords = map[string]string{relay.TransportHTTP: "Streamable HTTP", relay.TransportSSE: "HTTP+SSE (2024-11-05)"}

// probeWords explains the error of a probe, with the exit status that its kind has.
func (w accountRows) probeWords(e *relay.ProbeError) explain.Explanation {
	words := explain.Explanation{Kind: e.Kind, Text: e.Text, Hints: e.Hints, Status: explain.StatusFailed}
	if e.Err != nil {
		words = w.Words.Error(e.Err)
	} else if e.Status != 0 {
		words = w.Words.Error(&relay.StatusError{Status: e.Status})
		words.Text = e.Text
		if len(e.Hints) > 0 { // the relay has seen the whole answer
			words.Hints = e.Hints
		}
		if topic := "sallyport help " + words.Kind; !slices.Contains(words.Hints, topic) {
			words.Hints = append(slices.Clone(words.Hints), topic)
		}
	}
	return words
}

// tellUnsigned makes the row of an upstream that was asked without a token.
func (w accountRows) tellUnsigned(p probed) {
	asks := p.err != nil && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusBadRequest}, p.err.Status)
	if asks {
		w.skip(idMCP, "the upstream answers only after a sign-in", "sallyport doctor --login signs in and looks again")
		return
	}
	w.tellMCP(p)
}

// tellSigned makes the rows of an upstream that was shown the stored token.
func (w accountRows) tellSigned(p probed) {
	if p.err == nil || p.err.Status != http.StatusUnauthorized {
		if p.err == nil || p.err.Status != 0 {
			w.ok(idAccepted, "the upstream accepts the stored token")
		} else {
			w.skip(idAccepted, "the upstream has not judged the token")
		}
		w.tellMCP(p)
		return
	}
	account, _ := w.s.SignIn.Stored()
	if account.Refreshable {
		w.add(Check{ID: idAccepted, Result: Warn, Evidence: p.steps, Summary: "the upstream refuses the stored token before its time; the next use renews it, or signs in",
			Next: []string{"sallyport login, with the same settings in a terminal, does it now"}})
	} else {
		w.fail(idAccepted, &session.UnauthorizedError{Upstream: session.PlainURL(w.s.Upstream)}, p.steps...)
	}
	w.skip(idMCP, "the upstream answers only with a good token")
}
