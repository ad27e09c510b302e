package oauth

import (
	"slices"
	"strings"

	"sallyport/oauth/asclient"
)

// scopes returns what to ask for: configured, else of the challenge, else all of the
// resource metadata; with what was asked before on a step-up.
func (t *Transport) scopes(f asclient.Finding, j job, code bool) []string {
	list := strings.Fields(t.cfg.Scope)
	if len(list) == 0 {
		list = strings.Fields(j.scope)
	}
	if len(list) == 0 {
		list = f.Resource.Scopes
	}
	list = union(j.scopes, list)
	// Without it many servers grant no refresh token; with it others refuse.
	if code && t.cfg.Scope == "" && slices.Contains(f.Server.Scopes, "offline_access") {
		list = union(list, []string{"offline_access"})
	}
	return list
}

// resourceOf returns the resource parameter, "" to send none.
func (t *Transport) resourceOf(f asclient.Finding) string {
	if t.cfg.Resource != "" {
		return t.cfg.Resource
	}
	return f.Resource.ID
}

// wanted is what a token from f's server is asked for with these scopes.
func (t *Transport) wanted(f asclient.Finding, scopes []string) asclient.Wanted {
	return asclient.Wanted{Scopes: scopes, Resource: t.resourceOf(f), Audience: t.cfg.Audience}
}

// subset reports whether all of a are in b.
func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// union returns the distinct strings of lists in order.
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
