package oauth

import (
	"net/url"
	"slices"
	"strings"
)

// scopes returns what to ask for: configured, else of the challenge, else all of the
// resource metadata; with what was asked before on a step-up.
func (t *Transport) scopes(f finding, n need, code bool) []string {
	list := strings.Fields(t.cfg.Scope)
	if len(list) == 0 {
		list = strings.Fields(n.challenge.scope)
	}
	if len(list) == 0 {
		list = f.resource.Scopes
	}
	list = union(n.stepUp, list)
	// Without it many servers grant no refresh token; with it others refuse.
	if code && t.cfg.Scope == "" && slices.Contains(f.server.Scopes, "offline_access") {
		list = union(list, []string{"offline_access"})
	}
	return list
}

// resourceOf returns the resource parameter, "" to send none.
func (c *Config) resourceOf(f finding) string {
	if c.Resource != "" {
		return c.Resource
	}
	return f.resource.Resource
}

func setIf(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
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
