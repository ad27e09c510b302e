package oauth

import (
	"context"
	"slices"
	"strings"

	"sallyport/oauth/asclient"
)

// renew gets a token that satisfies n, or joins the flight that may, until ctx ends.
func (t *Transport) renew(ctx context.Context, n need) error {
	for {
		final, err := t.flights.join(ctx, n, func() bool { return t.account.satisfies(n) }, t.getToken)
		if final || err != nil && err != errNeedsPerson {
			return err
		}
	}
}

// getToken is the flight of renew. It tries what needs no person, then a login.
func (t *Transport) getToken(ctx context.Context, f *flight) error {
	r := &renewal{cfg: &t.cfg, as: t.as, clients: t.clients, account: t.account, flight: f}
	if t.cfg.unattended() {
		return r.unattended(ctx)
	}
	if done, err := r.refresh(ctx); done || err != nil {
		return err
	}
	if f.need.ahead {
		return errNeedsPerson // nobody is asked to log in while the token still works
	}
	done, refusal, err := r.useGiven(ctx)
	if done || err != nil {
		return err
	}
	if f.need.background {
		return errNeedsPerson
	}
	if t.cfg.NonInteractive {
		return &LoginRequiredError{Upstream: asclient.WithoutQuery(t.cfg.Upstream), Err: refusal}
	}
	t.flights.askPerson(f)
	return t.peers.logIn(ctx, f.need, func(ctx context.Context, lead *leadership) error {
		l := &login{renewal: r, lead: lead, status: t.status, life: t.life, pending: &t.callback}
		return l.run(ctx)
	})
}

// renewal is a flight that gets a token. It lives as long as the flight. Its own methods get the
// token without a person. A login adds what a person is needed for.
type renewal struct {
	cfg     *Config
	as      *asclient.Client
	clients clients
	account *accountRecord
	flight  *flight
}

// discover finds the authorization server. authorize says that the authorization endpoint is needed.
func (r *renewal) discover(ctx context.Context, authorize bool) (asclient.Finding, error) {
	return r.cfg.discover(ctx, r.as, r.flight.need.challenge.Metadata, authorize)
}

// wanted says what to ask f's server for. The scopes are those of the Config, or else those of the
// challenge, or else all of the resource metadata. A step-up adds those that it needs. offline says
// that the token is to outlive the login: then offline_access is added where the server lists it.
func (r *renewal) wanted(f asclient.Finding, offline bool) asclient.Wanted {
	list := strings.Fields(r.cfg.Scope)
	if len(list) == 0 {
		list = strings.Fields(r.flight.need.challenge.Scope)
	}
	if len(list) == 0 {
		list = f.Resource.Scopes
	}
	list = union(r.flight.need.stepUp, list)
	// Without offline_access many servers grant no refresh token; with it others refuse the
	// request.
	if offline && r.cfg.Scope == "" && slices.Contains(f.Server.Scopes, "offline_access") {
		list = union(list, []string{"offline_access"})
	}
	return asclient.Wanted{Scopes: list, Resource: r.cfg.resourceOf(f), Audience: r.cfg.Audience}
}

// subset reports whether all of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// union returns the distinct strings of lists, in order.
func union(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		for _, s := range l {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}
