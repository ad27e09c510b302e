package doctor

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// viaPrefix begins the IDs of the hops of --via, and callbackPrefix those of --callback-via.
const viaPrefix, callbackPrefix = "hop.", "callback.hop."

// dialLimit bounds the dial of one hop for which the person has set no ConnectTimeout.
const dialLimit = 12 * time.Second

// chain is the SSH hosts that one tunnel passes, and what its dial has shown.
type chain struct {
	// prefix is that of the IDs: "hop." or "callback.hop.".
	prefix string
	// tunnel leads through the hosts.
	tunnel *sshtunnel.Tunnel
	// read evaluates ssh_config.
	read func(context.Context) ([]*sshconfig.Host, error)
	// getenv is that of the tunnel. It knows the agent that was found in place of one that the
	// environment does not name.
	getenv func(string) string
	// sharedBy is the process of the shared connection that is up through the hosts. It is 0 if
	// there is none, or if the settings share nothing.
	sharedBy int
	// up says that the tunnel is up, and dialed that we have dialed it ourselves.
	up, dialed bool
	// needsPerson says that a login wants an answer of a person.
	needsPerson bool
	// events are the hooks of the dial that have been called and are not told yet.
	events chan func(*hopRows)

	// mu guards what follows.
	mu sync.Mutex
	// hosts are the hops, the destination last.
	hosts []*sshconfig.Host
	// trips are the last round-trip times, by alias.
	trips map[string]time.Duration
	// tripped is closed when each hop has one.
	tripped chan struct{}
	// copies says of copied known_hosts files which file each is a copy of.
	copies map[string]string
	// touched lists the hops for which keys were left out that need a touch.
	touched map[string]bool
}

// id returns the ID of a row of the hop with an index.
func (c *chain) id(index int, row string) string {
	return fmt.Sprintf("%s%d.%s", c.prefix, index+1, row)
}

// adjust makes a tunnel ask nobody, change nothing, and tell what its dial shows.
func (w *walk) adjust(cfg *sshtunnel.Config) {
	if w.viaShared {
		return
	}
	c := &chain{prefix: viaPrefix, dialed: true, events: make(chan func(*hopRows), 256), trips: map[string]time.Duration{},
		tripped: make(chan struct{}), copies: map[string]string{}, touched: map[string]bool{}}
	if w.Command.Via == "" || len(w.chains) > 0 {
		c.prefix = callbackPrefix
	}
	w.chains = append(w.chains, c)
	read := cfg.Chain
	c.read, c.getenv = read, cfg.Getenv
	cfg.Chain = func(ctx context.Context) ([]*sshconfig.Host, error) {
		hosts, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return w.quietHosts(c, hosts), nil
	}
	cfg.Log = slog.New(slog.DiscardHandler) // the rows tell it
	cfg.Refusals, cfg.Insist = nil, true
	cfg.Trace = c.trace()
	cfg.Notice = nil
	if cfg.Ask = w.Ask; w.Ask == nil {
		cfg.Terminal = false
	}
	cfg.Shared, cfg.SharedElsewhere = nil, nil
}

// quietHosts returns the hosts with what the dial of a doctor has otherwise.
func (w *walk) quietHosts(c *chain, hosts []*sshconfig.Host) []*sshconfig.Host {
	quiet := make([]*sshconfig.Host, len(hosts))
	for i, h := range hosts {
		quiet[i] = w.quiet(c, h)
	}
	return quiet
}

// quiet returns a copy of a host whose dial leaves no trace on the disk and in the agent, is
// bounded, asks nobody, and tells round-trip times soon.
func (w *walk) quiet(c *chain, h *sshconfig.Host) *sshconfig.Host {
	q := *h
	q.UpdateHostKeys, q.AddKeysToAgent = "no", "no"
	if q.StrictHostKeyChecking == "accept-new" || q.StrictHostKeyChecking == "no" || w.Ask != nil {
		w.copyKnownHosts(c, &q)
	}
	if !q.ConnectTimeoutSet || q.ConnectTimeout == 0 {
		q.ConnectTimeout, q.ConnectTimeoutSet = dialLimit, true
	}
	q.ServerAliveInterval, q.ServerAliveSet, q.ServerAliveCountMax = time.Second, true, 60
	if w.Ask == nil {
		q.KbdInteractiveAuthentication, q.PasswordAuthentication = false, false
		w.leaveOutTouched(c, &q)
	}
	return &q
}

// leaveOutTouched leaves out the keys of security keys, which want a touch.
func (w *walk) leaveOutTouched(c *chain, h *sshconfig.Host) {
	algorithms := h.PubkeyAcceptedAlgorithms
	if algorithms == nil {
		algorithms = sshconfig.DefaultAlgorithms("PubkeyAcceptedAlgorithms")
	}
	isTouched := func(name string) bool { return strings.Contains(name, "sk-") }
	if left := slices.DeleteFunc(slices.Clone(algorithms), isTouched); len(left) > 0 {
		h.PubkeyAcceptedAlgorithms = left
	}
}

// copyKnownHosts puts a copy in the place of the first known_hosts file of a host, because the dial
// notes an unknown key there.
func (w *walk) copyKnownHosts(c *chain, h *sshconfig.Host) {
	if len(h.UserKnownHostsFiles) == 0 {
		return
	}
	dir, err := os.MkdirTemp("", "sallyport-doctor-")
	if err != nil {
		return
	}
	w.closers = append(w.closers, func() { os.RemoveAll(dir) })
	original := h.UserKnownHostsFiles[0]
	text, _ := os.ReadFile(original) // a file that is missing counts as empty
	path := filepath.Join(dir, "known_hosts")
	if os.WriteFile(path, text, 0o600) != nil {
		return
	}
	h.UserKnownHostsFiles = append([]string{path}, h.UserKnownHostsFiles[1:]...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copies[path] = original
}

// original names the file that a text speaks of in place of its copy.
func (c *chain) original(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, original := range c.copies {
		text = strings.ReplaceAll(text, path, original)
	}
	return text
}

// trace returns the hooks of the dial.
func (c *chain) trace() *sshtunnel.Trace {
	send := func(f func(*hopRows)) {
		select {
		case c.events <- f:
		default: // nothing that a server sends brings so many
		}
	}
	return &sshtunnel.Trace{
		Connected:       func(i sshtunnel.ConnectedInfo) { send(func(r *hopRows) { r.connected(i) }) },
		HostKeyAccepted: func(i sshtunnel.HostKeyInfo) { send(func(r *hopRows) { r.hostKeyAccepted(i) }) },
		KeyExchanged:    func(i sshtunnel.KeyExchangeInfo) { send(func(r *hopRows) { r.keyExchanged(i) }) },
		AuthTried:       func(i sshtunnel.AuthInfo) { send(func(r *hopRows) { r.authTried(i) }) },
		RoundTrip:       c.noteTrip,
	}
}

// noteTrip notes a round-trip time.
func (c *chain) noteTrip(i sshtunnel.RoundTripInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trips[i.Hop] = i.Took
	if len(c.trips) == len(c.hosts) && c.tripped != nil {
		close(c.tripped)
		c.tripped = nil
	}
}

// awaitTrips returns the round-trip times of the hops that have answered in time.
func (c *chain) awaitTrips(ctx context.Context) map[string]time.Duration {
	c.mu.Lock()
	tripped := c.tripped
	c.mu.Unlock()
	if tripped != nil {
		select {
		case <-tripped:
		case <-time.After(3 * time.Second):
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	trips := map[string]time.Duration{}
	for hop, took := range c.trips {
		trips[hop] = took
	}
	return trips
}
