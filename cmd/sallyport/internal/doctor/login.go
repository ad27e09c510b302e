package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sallyport/sshtunnel"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/userkeys"
)

// tellKeys lists the keys that a hop would be offered, in their order. An agent that does not
// answer is a failure if there is no other key.
func (w *walk) tellKeys(ctx context.Context, c *chain, index int) {
	id, h := c.id(index, rowKeys), c.hosts[index]
	if !h.PubkeyAuthentication {
		w.skip(id, "PubkeyAuthentication is off")
		return
	}
	agent, agentErr := userkeys.OpenAgent(ctx, h, c.getenv)
	if agentErr == nil {
		defer agent.Close()
	}
	var notes []string
	keys := userkeys.Collect(userkeys.Config{
		Host: h, Agent: agent, Getenv: c.getenv, Context: ctx, Log: w.Log,
		Note:        func(text string) { notes = append(notes, text) },
		AgentFailed: func(err error) { agentErr = err },
	})
	var lines []string
	files := 0
	for i, k := range keys {
		lines = append(lines, fmt.Sprintf("%d. %s", i+1, keyLine(k)))
		if !k.InAgent {
			files++
		}
		if k.Signer != nil && strings.Contains(k.Signer.PublicKey().Type(), "sk-") {
			c.noteTouched(h.Alias)
		}
	}
	lines = append(lines, notes...)
	switch {
	case agentErr != nil && files == 0 && c.sharedBy == 0:
		e := w.Words.Error(&sshtunnel.AuthError{Hop: h.Alias, User: h.User, NeedsPerson: true, Agent: agentFault(agentErr), Err: agentErr})
		e.Text = agentErr.Error()
		w.failWith(id, e, lines...)
	case agentErr != nil:
		w.add(Check{ID: id, Result: Warn, Summary: fmt.Sprintf("%s; %s without it", agentErr, count(files, "key")), Evidence: lines,
			Next: w.Words.Error(&sshtunnel.AuthError{Hop: h.Alias, User: h.User, NeedsPerson: true, Agent: agentFault(agentErr), Err: agentErr}).Hints})
	case len(keys) == 0:
		w.skip(id, "there is no key to offer; "+w.agentWords(agent, c, h.IdentityAgent))
	default:
		w.ok(id, fmt.Sprintf("%s to offer; %s", count(len(keys), "key"), w.agentWords(agent, c, h.IdentityAgent)), lines...)
	}
}

// agentWords says which agent is asked.
func (w *walk) agentWords(agent *userkeys.Agent, c *chain, setting string) string {
	found := c.getenv(agentVariable)
	switch {
	case agent != nil && setting == "" && w.Env.Getenv(agentVariable) == "":
		return "SSH_AUTH_SOCK is not set in this process, and the agent at " + found + " was found"
	case agent != nil:
		return "the agent answers"
	case setting == "none":
		return "IdentityAgent none asks no agent"
	case setting != "":
		return "no agent at " + setting
	}
	return "no agent: SSH_AUTH_SOCK is not set in this process"
}

// count words a number of things.
func count(n int, what string) string {
	switch stem, y := strings.CutSuffix(what, "xy"); {
	case n == 1:
	case y:
		what = stem + "xies"
	case strings.HasSuffix(what, "s"):
		what += "es"
	default:
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// agentFault returns what package userkeys says of an agent that failed.
func agentFault(err error) *userkeys.AgentError {
	if e, ok := err.(*userkeys.AgentError); ok {
		return e
	}
	return &userkeys.AgentError{Fault: userkeys.AgentGone, Err: err}
}

// keyLine words one key.
func keyLine(k userkeys.Key) string {
	if k.Signer == nil {
		return k.Label + " (its public half is known only with the passphrase)"
	}
	where := "file"
	if k.InAgent {
		where = "the agent signs"
	}
	return fmt.Sprintf("%s %s, %s (%s)", k.Signer.PublicKey().Type(), hostkeys.Fingerprint(k.Signer.PublicKey()), k.Label, where)
}

// noteTouched notes that a hop has a key that wants a touch.
func (c *chain) noteTouched(hop string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.touched[hop] = true
}

// wantsPerson reports whether a login failed only because nobody was asked: the server takes a
// password or answers, or a key wants a touch. A key that the person has chosen for the host and
// that the server refuses, or that cannot sign, is a failure whatever else the server takes.
func (r *hopRows) wantsPerson(e *sshtunnel.AuthError) bool {
	if r.Ask != nil || e.Agent != nil {
		return false
	}
	h := r.host()
	r.c.mu.Lock()
	touched := r.c.touched[h.Alias]
	r.c.mu.Unlock()
	if touched {
		return true
	}
	partial := slices.ContainsFunc(r.tries, func(t sshtunnel.AuthInfo) bool { return t.Outcome == sshtunnel.AuthPartial })
	stuck := slices.ContainsFunc(r.tries, func(t sshtunnel.AuthInfo) bool { return t.Outcome == sshtunnel.AuthFailed })
	refused := slices.ContainsFunc(r.tries, func(t sshtunnel.AuthInfo) bool { return t.Outcome == sshtunnel.AuthRefused })
	if !r.takesAnswers(e) || stuck {
		return false
	}
	return partial || !h.IdentityFilesSet || !refused
}

// takesAnswers reports whether the server accepts a method by which a person answers, and the
// configuration allows it.
func (r *hopRows) takesAnswers(e *sshtunnel.AuthError) bool {
	h := r.host()
	asks := func(method string) bool {
		preferred := h.PreferredAuthentications
		return slices.Contains(e.Methods, method) && (preferred == nil || slices.Contains(preferred, method))
	}
	return !h.BatchMode && (h.PasswordAuthentication && asks("password") || h.KbdInteractiveAuthentication && asks("keyboard-interactive"))
}

// skipLogin makes the row of a login for which nobody was asked.
func (r *hopRows) skipLogin(e *sshtunnel.AuthError) {
	r.add(Check{ID: r.id(), Result: Skipped, Evidence: tryLines(r.tries),
		Summary: fmt.Sprintf("%s wants an answer of a person (%s), and nobody is asked without --login", r.host().Alias, strings.Join(e.Methods, ", ")),
		Next: []string{"sallyport login, with the same settings in a terminal, asks you and opens the shared connection that the proxies use",
			"sallyport doctor --login does that first"},
	})
	r.c.needsPerson = true
}
