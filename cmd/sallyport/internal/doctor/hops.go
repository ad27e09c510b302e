package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/sshconfig"
)

// hopRows makes the rows of the hops of one dial.
type hopRows struct {
	*walk
	c *chain
	// at is the hop that is being dialed, and next its next row, as an index of dialRows.
	at, next int
	// tries are the tries to log in to the hop.
	tries []sshtunnel.AuthInfo
	// addresses are those of the first hop's name.
	addresses []string
	// by says how the hop was reached (sshtunnel.ConnectedInfo).
	by string
}

// dialRows are the rows of a dial, in their order.
var dialRows = []string{rowName, rowTCP, rowKey, rowKex, rowLogin}

// tellHops makes the rows of a chain, from its configuration to the login. It reports whether the
// tunnel is up.
func (w *walk) tellHops(ctx context.Context, c *chain) bool {
	w.begin(c.id(0, rowConfig))
	c.sharedBy = w.sharedBy(ctx, c)
	for i, h := range c.hosts {
		w.begin(c.id(i, rowConfig))
		w.tellConfig(c.id(i, rowConfig), h)
		w.begin(c.id(i, rowKeys))
		w.tellKeys(ctx, c, i)
	}
	r := &hopRows{walk: w, c: c}
	w.begin(c.id(0, rowName))
	r.lookUp(ctx)
	limit := time.Duration(len(c.hosts)) * (dialLimit + 3*time.Second)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.tunnel.Connect(ctx) }() // ends with ctx
	var err error
	for dialing := true; dialing; {
		select {
		case event := <-c.events:
			event(r)
		case err = <-done:
			dialing = false
		}
	}
	for len(c.events) > 0 {
		(<-c.events)(r)
	}
	if err != nil {
		r.failed(err)
		return false
	}
	r.finishHop(len(c.hosts))
	return true
}

// tellConfig shows what ssh_config makes of a hop, and where it says so.
func (w *walk) tellConfig(id string, h *sshconfig.Host) {
	var evidence []string
	for _, s := range h.Settings() {
		if s.Origin.Kind != sshconfig.FromDefault {
			evidence = append(evidence, fmt.Sprintf("%s %s (%s)", s.Keyword, s.Value, s.Origin))
		}
	}
	from := func(keyword string) string { return h.Origin(keyword).String() }
	w.ok(id, fmt.Sprintf("%s is %s@%s port %d (HostName: %s; User: %s)", h.Alias, h.User, h.HostName, h.Port, from("hostname"), from("user")), evidence...)
}

// lookUp looks up the name of the first hop, if this process is the one to connect there.
func (r *hopRows) lookUp(ctx context.Context) {
	first := r.c.hosts[0]
	if first.ProxyCommand != "" || isAddress(first.HostName) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r.addresses, _ = net.DefaultResolver.LookupHost(ctx, first.HostName) // the dial tells an error
}

// isAddress reports whether a host is an IP address and no name.
func isAddress(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// id returns the ID of the next row.
func (r *hopRows) id() string { return r.c.id(r.at, dialRows[r.next]) }

// host is the hop that is being dialed.
func (r *hopRows) host() *sshconfig.Host { return r.c.hosts[r.at] }

// step goes on to the next row.
func (r *hopRows) step() {
	r.next++
	if r.next == len(dialRows) {
		r.at, r.next, r.tries, r.by = r.at+1, 0, nil, ""
	}
	if r.at < len(r.c.hosts) {
		r.begin(r.id())
	}
}

// upTo skips the rows of the hop before a row, for a reason.
func (r *hopRows) upTo(row, because string) {
	for r.next < slices.Index(dialRows, row) {
		if !r.tellProxyCommand() {
			r.skip(r.id(), because)
		}
		r.step()
	}
}

// tellProxyCommand makes the row of a connection by a ProxyCommand that the server has answered on.
func (r *hopRows) tellProxyCommand() bool {
	if dialRows[r.next] != rowTCP || r.by != sshtunnel.ByProxyCommand {
		return false
	}
	r.ok(r.id(), "by ProxyCommand "+r.host().ProxyCommand)
	return true
}

// finishHop skips what was not told of the hops before an index.
func (r *hopRows) finishHop(until int) {
	for r.at < until {
		if dialRows[r.next] == rowLogin && len(r.tries) > 0 {
			r.ok(r.id(), "logged in", tryLines(r.tries)...)
		} else {
			r.skip(r.id(), r.stoodIn())
		}
		r.step()
	}
}

// stoodIn says why a hop has no rows of its own.
func (r *hopRows) stoodIn() string {
	if r.by == sshtunnel.ByControlMaster || r.by == "" {
		return "a connection that is logged in already stands for this hop"
	}
	return "the dial did not tell"
}

// connected makes the rows up to the connection of a hop.
func (r *hopRows) connected(i sshtunnel.ConnectedInfo) {
	index := slices.IndexFunc(r.c.hosts, func(h *sshconfig.Host) bool { return h.Alias == i.Hop })
	if index < r.at || r.next > 1 {
		return
	}
	r.finishHop(index)
	r.by = i.By
	h := r.host()
	switch {
	case i.By == sshtunnel.ByProxyCommand:
		r.skip(r.id(), "ProxyCommand leads to the host")
	case i.By == sshtunnel.ByControlMaster:
		r.skip(r.id(), r.stoodIn())
	case isAddress(h.HostName):
		r.skip(r.id(), h.HostName+" is an address")
	case i.By == sshtunnel.ByHop:
		r.ok(r.id(), fmt.Sprintf("%s resolves %s", r.c.hosts[r.at-1].Alias, h.HostName))
	default:
		r.ok(r.id(), fmt.Sprintf("%s is %s", h.HostName, cmp.Or(strings.Join(r.addresses, ", "), i.Addr)))
	}
	r.step()
	switch i.By {
	case sshtunnel.ByProxyCommand: // it has started, and whether it connects is not known yet
		return
	case sshtunnel.ByControlMaster:
		r.ok(r.id(), "by your ControlMaster, "+i.Addr)
	case sshtunnel.ByHop:
		r.ok(r.id(), fmt.Sprintf("connected to %s by %s", i.Addr, r.c.hosts[r.at-1].Alias))
	default:
		r.ok(r.id(), "connected to "+i.Addr)
	}
	r.step()
}

// hostKeyAccepted makes the row of the host key.
func (r *hopRows) hostKeyAccepted(i sshtunnel.HostKeyInfo) {
	if r.at >= len(r.c.hosts) || r.host().Alias != i.Hop {
		return
	}
	r.upTo(rowKey, r.stoodIn())
	v := i.Voucher
	line := r.c.original(v.String())
	c := Check{ID: r.id(), Result: OK, Summary: fmt.Sprintf("%s %s is known: %s", v.Type, v.Fingerprint, line)}
	switch v.Source {
	case hostkeys.SourcePolicy:
		c.Result, c.Summary = Warn, fmt.Sprintf("%s %s was not known; StrictHostKeyChecking takes it, and a proxy notes it", v.Type, v.Fingerprint)
		c.Next = []string{"compare the fingerprint with what the administrator of " + i.Hop + " says"}
	case hostkeys.SourcePerson:
		c.Summary = fmt.Sprintf("%s %s: you have accepted it now", v.Type, v.Fingerprint)
	}
	r.add(c)
	r.step()
}

// keyExchanged makes the row of the key exchange.
func (r *hopRows) keyExchanged(i sshtunnel.KeyExchangeInfo) {
	if r.at >= len(r.c.hosts) || r.host().Alias != i.Hop || r.next > slices.Index(dialRows, rowKex) {
		return
	}
	r.upTo(rowKex, r.stoodIn())
	kind := "not post-quantum: who records the connection today may read it one day"
	if i.PostQuantum() {
		kind = "post-quantum"
	}
	r.ok(r.id(), fmt.Sprintf("%s, %s", i.KeyExchange, kind), fmt.Sprintf("host key algorithm %s; to the server %s, from the server %s",
		i.HostKey, cipher(i.ToServer), cipher(i.FromServer)))
	r.step()
}

// cipher words what protects one direction.
func cipher(i sshtunnel.CipherInfo) string {
	return strings.TrimSuffix(i.Cipher+" with "+i.MAC, " with ")
}

// authTried notes a try, and makes the row of the login when it is the last one.
func (r *hopRows) authTried(i sshtunnel.AuthInfo) {
	if r.at >= len(r.c.hosts) || r.host().Alias != i.Hop {
		return
	}
	r.tries = append(r.tries, i)
	if i.Outcome != sshtunnel.AuthAccepted {
		return
	}
	r.upTo(rowLogin, "the dial did not tell")
	what := "by " + i.Method
	switch {
	case i.Method == "none":
		what = "without any credentials: the server lets in everybody"
	case i.Fingerprint != "":
		what = fmt.Sprintf("by key %s (%s)", i.Fingerprint, i.Source)
	}
	r.ok(r.id(), fmt.Sprintf("logged in as %s %s", r.host().User, what), tryLines(r.tries)...)
	r.step()
}

// tryLines words the tries to log in.
func tryLines(tries []sshtunnel.AuthInfo) []string {
	var lines []string
	for _, t := range tries {
		line := t.Method
		if t.Fingerprint != "" {
			line += fmt.Sprintf(" %s (%s)", t.Fingerprint, t.Source)
		}
		line += ": " + t.Outcome
		if t.Err != nil {
			line += ", " + t.Err.Error()
		}
		lines = append(lines, line)
	}
	return lines
}

// failed makes the row that the error of the dial belongs to, and skips the others.
func (r *hopRows) failed(err error) {
	row, index := r.rowOf(err)
	if index < r.at { // a hop was lost after its last row
		row, index = dialRows[r.next], r.at
	}
	r.finishHop(index)
	if r.at < len(r.c.hosts) {
		if r.next < slices.Index(dialRows, row) {
			r.passTo(row)
		}
		auth, _ := errors.AsType[*sshtunnel.AuthError](err)
		switch {
		case auth != nil && r.c.sharedBy != 0:
			r.c.needsPerson = true
			r.add(Check{ID: r.id(), Result: Skipped, Evidence: append(tryLines(r.tries), err.Error()),
				Summary: fmt.Sprintf("the shared connection of process %d is logged in, and proxies use it; without it: %s", r.c.sharedBy, r.words(err).Text)})
		case auth != nil && r.wantsPerson(auth):
			r.skipLogin(auth)
		default:
			r.failWith(r.id(), r.words(err), tryLines(r.tries)...)
		}
		r.step()
	}
	for r.at < len(r.c.hosts) {
		r.skip(r.id(), "the dial ended before")
		r.step()
	}
}

// words explains the error of a dial. A time that the whole dial has taken is nobody's word.
func (r *hopRows) words(err error) explain.Explanation {
	e := r.Words.Error(err)
	_, auth := errors.AsType[*sshtunnel.AuthError](err)
	if hint := r.Client.restores(agentVariable); auth && hint != "" {
		e.Hints = append([]string{hint}, e.Hints...)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Text = fmt.Sprintf("hop %s: no answer in time", r.host().Alias)
	}
	return e
}

// passTo makes the rows of the hop that must have been good for the error of a later one.
func (r *hopRows) passTo(row string) {
	for r.next < slices.Index(dialRows, row) {
		h := r.host()
		switch dialRows[r.next] {
		case rowName:
			switch {
			case h.ProxyCommand != "":
				r.skip(r.id(), "ProxyCommand leads to the host")
			case isAddress(h.HostName):
				r.skip(r.id(), h.HostName+" is an address")
			case r.at == 0 && len(r.addresses) > 0:
				r.ok(r.id(), fmt.Sprintf("%s is %s", h.HostName, strings.Join(r.addresses, ", ")))
			default:
				r.skip(r.id(), "nobody told how "+h.HostName+" resolves")
			}
		case rowKey:
			r.skip(r.id(), "the server showed no key that could be judged")
		default:
			if !r.tellProxyCommand() {
				r.skip(r.id(), "the dial did not come to it")
			}
		}
		r.step()
	}
}

// rowOf returns the row and the index of the hop that the error of a dial belongs to.
func (r *hopRows) rowOf(err error) (row string, index int) {
	index = r.at
	hop, isHop := errors.AsType[*sshtunnel.HopError](err)
	if isHop {
		if i := slices.IndexFunc(r.c.hosts, func(h *sshconfig.Host) bool { return h.Alias == hop.Hop }); i >= 0 {
			index = i
		}
	}
	_, dns := errors.AsType[*net.DNSError](err)
	open, refused := errors.AsType[*sshtunnel.OpenError](err)
	_, key := errors.AsType[*hostkeys.Error](err)
	_, auth := errors.AsType[*sshtunnel.AuthError](err)
	_, program := errors.AsType[*sshtunnel.ProxyCommandError](err)
	switch {
	case program:
		return rowTCP, index
	case dns, refused && isNameRefusal(open):
		return rowName, index
	case key:
		return rowKey, index
	case auth:
		return rowLogin, index
	case !isHop:
		return dialRows[r.next], index
	}
	switch hop.Stage {
	case sshtunnel.StageHandshake:
		return rowKex, index
	case sshtunnel.StageAuth, sshtunnel.StageLink:
		return rowLogin, index
	}
	return rowTCP, index
}

// nameRefusals begin what servers say of a name that they cannot resolve, as glibc, musl, the BSD
// systems, macOS, Windows and Go word it. The protocol has no code for it (RFC 4254 section 5.1),
// so these words are all there is.
var nameRefusals = []string{
	"name or service not known", "temporary failure in name resolution", "no address associated with", "name does not resolve",
	"nodename nor servname", "no such host", "unknown host", "non-recoverable failure in name resolution", "try again",
	"name has no usable address", "lookup ",
}

// isNameRefusal reports whether a hop could not connect because it cannot resolve the name.
func isNameRefusal(e *sshtunnel.OpenError) bool {
	said := strings.ToLower(e.Msg)
	return !e.Prohibited() && slices.ContainsFunc(nameRefusals, func(words string) bool { return strings.HasPrefix(said, words) || strings.Contains(said, ": "+words) })
}
