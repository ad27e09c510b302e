package callback

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// askHosts bounds the question on which of several hosts a tool waits.
	askHosts = 5 * time.Second
	// choiceTime is how long the person may choose a host, and maxChoices how many choices are open
	// at a time.
	choiceTime = 5 * time.Minute
	maxChoices = 32
	// choicePath begins the path of a choice. A name follows.
	choicePath = "/sallyport-host/"
)

// choice is one host that the person may choose for a callback.
type choice struct {
	host *Host
	// path and query are those of the callback.
	path, query string
	expires     time.Time
}

// candidates returns the hosts on which the tool of a callback may wait: those on which this user
// listens on the port, and those that do not tell. There is more than one if that is in doubt. The
// error says why there is none.
func (c *Carrier) candidates(ctx context.Context, port int) ([]*Host, error) {
	c.mu.Lock()
	hosts := slices.Clone(c.hosts)
	c.mu.Unlock()
	if len(hosts) == 1 {
		return hosts, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askHosts)
	defer cancel()
	errs := make([]error, len(hosts))
	var asking sync.WaitGroup
	for i, h := range hosts {
		asking.Go(func() { errs[i] = c.owned(ctx, h, port) }) // ends with the timeout
	}
	asking.Wait()
	var may []*Host
	for i, h := range hosts {
		if e, ok := errors.AsType[*OwnerError](errs[i]); !ok || e.Err != nil {
			may = append(may, h)
		}
	}
	if !slices.Contains(errs, nil) {
		// One may begin to listen meanwhile. It is not tried in the place of another.
		return nil, errors.Join(append(errs, errors.New("no tool waits for this on any machine of callback"))...)
	}
	return may, nil
}

// owned returns nil if this user listens on a port of a host.
func (c *Carrier) owned(ctx context.Context, h *Host, port int) error {
	if c.ownedHost != nil {
		return c.ownedHost(h, port)
	}
	_, err := h.ownedSockets(ctx, port)
	return err
}

// choose shows a page on which the person chooses the host of a callback. The callback stays here:
// the page has links to names of ours.
func (c *Carrier) choose(w http.ResponseWriter, r *http.Request, hosts []*Host) {
	p := page{Kind: "ask", Title: "Which machine is this for?",
		Text: "A sign-in has come back to this port. More than one machine may wait for it, and only the right one may have it.",
		Next: "Choose the machine on which you started the sign-in. Nothing was handed over yet."}
	c.mu.Lock()
	for name, ch := range c.choices {
		if time.Now().After(ch.expires) {
			delete(c.choices, name)
		}
	}
	full := len(c.choices)+len(hosts) > maxChoices
	for _, h := range hosts {
		if full {
			break
		}
		name := choicePath + rand.Text()
		c.choices[name] = choice{h, r.URL.Path, r.URL.RawQuery, time.Now().Add(choiceTime)}
		p.Links = append(p.Links, choiceLink{Name: h.Name, Path: name})
	}
	c.mu.Unlock()
	if full {
		p = page{Title: "Not carried", Text: "Too many sign-ins wait for a machine to be chosen.", Next: "Choose in the other tabs, or come back in five minutes."}
	}
	p.send(w, http.StatusOK)
}

// chosen returns the request that the person has chosen a host for, and that host. It reports false
// if the path is that of no choice.
func (c *Carrier) chosen(r *http.Request) (*http.Request, *Host, bool) {
	if !strings.HasPrefix(r.URL.Path, choicePath) {
		return r, nil, false
	}
	c.mu.Lock()
	ch, ok := c.choices[r.URL.Path]
	c.mu.Unlock()
	if !ok || time.Now().After(ch.expires) {
		return r, nil, false
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = ch.path, "", ch.query
	return r, ch.host, true
}
