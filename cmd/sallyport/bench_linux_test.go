package main

import (
	"cmp"
	"context"
	encoding "encoding/binary" // binary is ours
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// benchRoundTrip is that of the slow link.
const benchRoundTrip = 50 * time.Millisecond

// echoSize and echoCount are those of the small requests.
const (
	echoSize  = 512
	echoCount = 3000
)

// idleTunnels is how many tunnels the figures for one are taken from.
const idleTunnels = 20

// benchRow is a line of the table. Each round takes both times, one after the other.
type benchRow struct {
	what, against string
	target        string // of the ratio
	theirs, ours  func(testing.TB) time.Duration
	both          func(testing.TB) (theirs, ours time.Duration) // instead of them
	bytes         int64                                         // that each moves; 0 where the time is what counts
}

// BenchmarkAgainstOpenSSH prints one Markdown table: sallyport against the real ssh, both over the
// same real sshd, on loopback and over a link of 50 ms round trip. Each figure is the median of
// SALLYPORT_BENCH_ROUNDS rounds (5) in which both sides take turns; bulk moves
// SALLYPORT_BENCH_BYTES (1 GiB), a sixteenth of that over the slow link. SALLYPORT_BENCH_ONLY takes
// the rows that have this text in their name. It needs root, for network namespaces.
func BenchmarkAgainstOpenSSH(b *testing.B) {
	needProgram(b, "ssh", "openssh-client")
	rounds := int(benchSetting(b, "SALLYPORT_BENCH_ROUNDS", 5))
	bulk := benchSetting(b, "SALLYPORT_BENCH_BYTES", 1<<30)

	here := newNetns(b)
	local := newBenchSite(b, here, here, "127.0.0.1")
	near, far := farAway(b, benchRoundTrip)
	remote := newBenchSite(b, near, far, farIP)

	var rows []benchRow
	for _, place := range []struct {
		site    *benchSite
		name    string
		targets []string
	}{{local, "loopback", []string{"≤ 0.35", "≤ 0.35", "≤ 0.35"}}, {remote, "50 ms", []string{"≤ 0.70", "≤ 0.60", "≤ 0.60"}}} {
		for i, target := range place.targets {
			hops, against := i+1, "ssh -W"
			if i > 0 {
				against = "ssh -J"
			}
			rows = append(rows, benchRow{
				what: fmt.Sprintf("process start to first upstream byte, hops: %d, %s", hops, place.name), against: against, target: target,
				theirs: func(t testing.TB) time.Duration { return place.site.startSSH(t, hops) },
				ours:   func(t testing.TB) time.Duration { return place.site.startSallyport(t, hops) },
			})
		}
	}
	rows = append(rows, benchRow{
		what: fmt.Sprintf("%d B echo, p50, 1 hop, loopback", echoSize), against: "ssh -L", target: "≤ 0.80",
		both: func(t testing.TB) (theirs, ours time.Duration) {
			return local.both(t, load{Op: opEcho, Count: echoCount})
		},
	})
	for _, c := range []struct {
		op     byte
		what   string
		target string
	}{{opSink, "up", "≥ 1.00"}, {opSource, "down", "≥ 0.90"}} {
		what := "bulk " + c.what + ", %s, one stream, aes128-gcm, %s"
		rows = append(rows, benchRow{
			what: fmt.Sprintf(what, byteSize(bulk), "loopback"), against: "ssh -L", target: c.target, bytes: bulk,
			both: func(t testing.TB) (theirs, ours time.Duration) {
				return local.both(t, load{Op: c.op, Count: bulk})
			},
		}, benchRow{
			what: fmt.Sprintf(what, byteSize(bulk/16), "50 ms"), against: "ssh -L", target: "≥ 1.00", bytes: bulk / 16,
			theirs: func(t testing.TB) time.Duration { return remote.throughSSH(t, load{Op: c.op, Count: bulk / 16}) },
			ours:   func(t testing.TB) time.Duration { return remote.throughTunnel(t, load{Op: c.op, Count: bulk / 16}) },
		})
	}
	for _, c := range []struct {
		op   byte
		what string
	}{{opSink, "up"}, {opSource, "down"}} {
		rows = append(rows, benchRow{
			what: fmt.Sprintf("bulk %s, %s a stream, four streams of one connection, 50 ms", c.what, byteSize(bulk/16)), against: "ours, one stream", target: "≥ 2.00", bytes: bulk / 16,
			theirs: func(t testing.TB) time.Duration { return remote.throughTunnel(t, load{Op: c.op, Count: bulk / 16}) },
			ours: func(t testing.TB) time.Duration {
				return remote.throughTunnel(t, load{Op: c.op, Count: bulk / 4, Streams: 4}) / 4
			},
		})
	}
	only := os.Getenv("SALLYPORT_BENCH_ONLY")
	var table strings.Builder
	fmt.Fprintf(&table, "\n| what | against | theirs | ours | ratio | must reach |\n|---|---|---|---|---|---|\n")
	for _, row := range rows {
		if strings.Contains(row.what, only) {
			fmt.Fprintln(&table, row.measure(b, rounds))
		}
	}
	if strings.Contains("idle tunnel", only) {
		kib, goroutines := local.idle(b)
		fmt.Fprintf(&table, "| memory per idle tunnel, 1 hop | - | - | %.0f KiB | - | - |\n| goroutines per idle tunnel, 1 hop | - | - | %.1f | - | - |\n", kib, goroutines)
	}
	fmt.Println(table.String())
	for b.Loop() { // the table is the result
	}
}

func benchSetting(t testing.TB, name string, value int64) int64 {
	if text := os.Getenv(name); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			t.Fatalf("%s=%q is not a number", name, text)
		}
		return n
	}
	return value
}

func byteSize(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.3g GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.3g MiB", float64(n)/(1<<20))
}

// measure returns the row as measured. Of throughput the ratio is ours to theirs, as of times.
func (row *benchRow) measure(t testing.TB, rounds int) string {
	var theirs, ours []time.Duration
	for range rounds {
		var a, b time.Duration
		if row.both != nil {
			a, b = row.both(t)
		} else {
			a, b = row.theirs(t), row.ours(t)
		}
		theirs, ours = append(theirs, a), append(ours, b)
	}
	a, b := median(theirs), median(ours)
	ratio, show := b.Seconds()/a.Seconds(), func(d time.Duration) string { return d.Round(d / 1000).String() }
	if row.bytes > 0 {
		ratio, show = 1/ratio, func(d time.Duration) string {
			return fmt.Sprintf("%.0f MiB/s", float64(row.bytes)/(1<<20)/d.Seconds())
		}
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %.2f | %s |", row.what, row.against, show(a), show(b), ratio, row.target)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// benchSite is three sshd hops in one namespace, and clients in another or the same.
type benchSite struct {
	near     *netns
	config   string   // ssh_config that leads from each hop to the next
	hops     []string // aliases
	upstream string   // as the hops see it; gives each load what it asks for
	silent   string   // likewise; says when something first came
	first    chan time.Time
	state    string // directory
}

func newBenchSite(t testing.TB, near, far *netns, ip string) *benchSite {
	t.Helper()
	s := &benchSite{near: near, first: make(chan time.Time, 100), state: filepath.Join(t.TempDir(), "state")}
	var hops []hop
	for i := range 3 {
		alias := fmt.Sprintf("hop%d", i+1)
		server := startSSHD(t, sshdOptions{NS: far, Listen: net.JoinHostPort(ip, "0"), Config: []string{"LogLevel ERROR"}})
		hops = append(hops, hop{Alias: alias, SSHD: server, Config: []string{"Ciphers aes128-gcm@openssh.com", "IdentityAgent none"}})
		s.hops = append(s.hops, alias)
	}
	s.config = writeSSHConfig(t, hops...)

	upstream := far.listen(t, "127.0.0.1:0")
	s.upstream = upstream.Addr().String()
	go serveLoads(upstream)
	silent := far.listen(t, "127.0.0.1:0")
	s.silent = silent.Addr().String()
	go func() { // ends with the listener
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer conn.Close()
				var b [1]byte
				if _, err := io.ReadFull(conn, b[:]); err == nil {
					s.first <- time.Now()
				}
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	return s
}

// startSSH is the time from the start of ssh to the first byte that it brings to the upstream.
func (s *benchSite) startSSH(t testing.TB, hops int) time.Duration {
	cmd := exec.Command("ssh", "-F", s.config, "-W", s.silent, s.hops[hops-1])
	return s.timeStart(t, cmd, "x")
}

// startSallyport is the same of sallyport, whose first byte is that of a host's first request.
func (s *benchSite) startSallyport(t testing.TB, hops int) time.Duration {
	cmd := exec.Command(buildSallyport(t), "-F", s.config, "--via", s.hops[hops-1],
		"--state-dir", s.state, "--header", "Authorization: Bearer none", "http://"+s.silent+"/mcp")
	return s.timeStart(t, cmd, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`+"\n")
}

func (s *benchSite) timeStart(t testing.TB, cmd *exec.Cmd, input string) time.Duration {
	t.Helper()
	home := s.state
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_STATE_HOME="+home)
	stderr := newTranscript(t.Output())
	cmd.Stderr = stderr
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	// Written before the start, or a slow writer would count.
	if _, err := io.WriteString(stdin, input); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := s.near.enter(cmd.Start); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	go func() { // ends with the program
		p.err = cmd.Wait()
		close(p.exited)
	}()
	defer p.stop()
	select {
	case at := <-s.first:
		return at.Sub(begin)
	case <-p.exited:
		t.Fatalf("%q ended: %v: %s", cmd.Args, p.err, stderr)
	case <-time.After(patience):
		t.Fatalf("%q: nothing came: %s", cmd.Args, stderr)
	}
	return 0
}

// What a load asks of the upstream.
const (
	opEcho   = 'e' // send back so many bytes
	opSink   = 'u' // read so many bytes, answer with one
	opSource = 'd' // send so many bytes
)

// load is what a client does over one or more connections. With both ways given, they take turns.
type load struct {
	Op      byte
	Count   int64  // bytes over all streams, or echoes
	Streams int    // 0 means 1
	Forward string // where ssh -L listens; "" not to use it
	Target  string // the upstream as the hop knows it
	Config  string // ssh_config; "" not to use a tunnel
	Alias   string
}

const loadChunk = 32 << 10 // what io.Copy moves at once

// serveLoads gives each connection what it asks for, until the listener is closed.
func serveLoads(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the client
			defer conn.Close()
			var head [9]byte
			buf := make([]byte, 8*loadChunk)
			for {
				if _, err := io.ReadFull(conn, head[:]); err != nil {
					return
				}
				n := int64(encoding.BigEndian.Uint64(head[1:]))
				var err error
				switch head[0] {
				case opEcho:
					_, err = io.CopyBuffer(struct{ io.Writer }{conn}, io.LimitReader(conn, n), buf)
				case opSink:
					if _, err = io.CopyN(io.Discard, conn, n); err == nil {
						_, err = conn.Write(head[:1])
					}
				case opSource:
					for ; n > 0 && err == nil; n -= int64(len(buf)) {
						_, err = conn.Write(buf[:min(n, int64(len(buf)))])
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// benchForward is where ssh -L listens, in a namespace that nobody else uses.
const benchForward = "127.0.0.1:20022"

// startForward starts `ssh -L` to the upstream.
func (s *benchSite) startForward(t testing.TB) *process {
	t.Helper()
	cmd := exec.Command("ssh", "-F", s.config, "-N", "-L", benchForward+":"+s.upstream, s.hops[0])
	var p *process
	if err := s.near.enter(func() error { p = startProcess(t, cmd); return nil }); err != nil {
		t.Fatal(err)
	}
	return p
}

// throughSSH carries a load through `ssh -L`.
func (s *benchSite) throughSSH(t testing.TB, l load) time.Duration {
	t.Helper()
	defer s.startForward(t).stop()
	l.Forward = benchForward
	return s.carry(t, l)[0]
}

// throughTunnel carries a load in process.
func (s *benchSite) throughTunnel(t testing.TB, l load) time.Duration {
	t.Helper()
	l.Target, l.Config, l.Alias = s.upstream, s.config, s.hops[0]
	return s.carry(t, l)[0]
}

// both carries the load over both ways by turns: what the processors take part in is too
// unsteady to be compared one after the other on a machine that does other work.
func (s *benchSite) both(t testing.TB, l load) (theirs, ours time.Duration) {
	t.Helper()
	defer s.startForward(t).stop()
	l.Forward, l.Target, l.Config, l.Alias = benchForward, s.upstream, s.config, s.hops[0]
	got := s.carry(t, l)
	return got[0], got[1]
}

func (s *benchSite) carry(t testing.TB, l load) []time.Duration {
	t.Helper()
	p, line := startRole(t, s.near, "load", l)
	defer p.stop()
	var times []time.Duration
	for word := range strings.FieldsSeq(line) {
		d, err := time.ParseDuration(word)
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, d)
	}
	return times
}

func init() {
	roles["load"] = playLoad
	roles["idle"] = playIdle
}

// playLoad carries a load and prints how long it took, without the dialing.
func playLoad(text []byte) error {
	var l load
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	times, err := l.run()
	fmt.Println(strings.Trim(fmt.Sprint(times), "[]"))
	return err
}

func (l load) run() ([]time.Duration, error) {
	tuneGC()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var conns []net.Conn
	if l.Forward != "" {
		conn, err := dialForward(ctx, l.Forward)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	if l.Config != "" {
		tunnel, err := benchTunnel(l.Config, l.Alias)
		if err != nil {
			return nil, err
		}
		defer tunnel.Close()
		for range cmp.Or(l.Streams, 1) {
			conn, err := tunnel.DialContext(ctx, "tcp", l.Target)
			if err != nil {
				return nil, err
			}
			defer conn.Close()
			conns = append(conns, conn)
		}
	}
	if l.Forward != "" && l.Config != "" {
		return l.byTurns(conns)
	}
	errs := make(chan error, len(conns))
	begin := time.Now()
	for _, conn := range conns {
		go func() { errs <- bulk(conn, l.Op, l.Count/int64(len(conns))) }()
	}
	for range conns {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	return []time.Duration{time.Since(begin)}, nil
}

// dialForward waits for ssh to listen.
func dialForward(ctx context.Context, addr string) (net.Conn, error) {
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err == nil || ctx.Err() != nil {
			return conn, err
		}
		time.Sleep(time.Millisecond)
	}
}

// benchTunnel is a tunnel as the command makes it.
func benchTunnel(config, alias string) (*sshtunnel.Tunnel, error) {
	resolver := &sshconfig.Resolver{UserFile: config, UserFileRequired: true, Getenv: os.Getenv}
	return sshtunnel.New(sshtunnel.Config{
		Chain:  func(ctx context.Context) ([]*sshconfig.Host, error) { return resolver.Chain(ctx, alias) },
		Getenv: os.Getenv,
	})
}

// byTurns carries the load over each connection, a part at a time in turns, and returns how long an
// echo took, or all bytes would have taken, by the median of the parts.
func (l load) byTurns(conns []net.Conn) ([]time.Duration, error) {
	const turns = 32
	times := make([][]time.Duration, len(conns))
	for range turns {
		for i, conn := range conns {
			if l.Op == opEcho {
				took, err := echoes(conn, l.Count/turns)
				if err != nil {
					return nil, err
				}
				times[i] = append(times[i], took...)
				continue
			}
			begin := time.Now()
			if err := bulk(conn, l.Op, l.Count/turns); err != nil {
				return nil, err
			}
			times[i] = append(times[i], time.Since(begin)*turns)
		}
	}
	medians := make([]time.Duration, len(conns))
	for i := range conns {
		medians[i] = median(times[i])
	}
	return medians, nil
}

// echoes returns the times of single small requests.
func echoes(conn net.Conn, count int64) (times []time.Duration, err error) {
	if _, err := conn.Write(encoding.BigEndian.AppendUint64([]byte{opEcho}, uint64(count*echoSize))); err != nil {
		return nil, err
	}
	buf := make([]byte, echoSize)
	for range count {
		begin := time.Now()
		if _, err := conn.Write(buf); err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			return nil, err
		}
		times = append(times, time.Since(begin))
	}
	return times, nil
}

// bulk moves n bytes one way.
func bulk(conn net.Conn, op byte, n int64) error {
	if _, err := conn.Write(encoding.BigEndian.AppendUint64([]byte{op}, uint64(n))); err != nil {
		return err
	}
	buf := make([]byte, loadChunk)
	if op == opSource {
		for left := n; left > 0; {
			got, err := conn.Read(buf[:min(left, loadChunk)])
			if err != nil {
				return err
			}
			left -= int64(got)
		}
		return nil
	}
	for left := n; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(left, loadChunk)]
		if _, err := conn.Write(buf); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(conn, buf[:1])
	return err
}

// idle is what one tunnel costs that stands and does nothing.
func (s *benchSite) idle(t testing.TB) (kib, goroutines float64) {
	t.Helper()
	p, line := startRole(t, s.near, "idle", load{Config: s.config, Alias: s.hops[0]})
	defer p.stop()
	if _, err := fmt.Sscan(line, &kib, &goroutines); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return kib, goroutines
}

// playIdle prints the memory in KiB, heap and stacks, and the goroutines of one idle tunnel.
func playIdle(text []byte) error {
	var l load
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	memory := func() (n float64) {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapAlloc + stats.StackInuse)
	}
	var before float64
	var goroutines int
	for i := range idleTunnels + 1 { // the first one pays for what all share
		if i == 1 {
			before, goroutines = memory(), runtime.NumGoroutine()
		}
		tunnel, err := benchTunnel(l.Config, l.Alias)
		if err != nil {
			return err
		}
		defer tunnel.Close()
		if err := tunnel.Connect(ctx); err != nil {
			return err
		}
	}
	fmt.Println((memory()-before)/1024/idleTunnels, float64(runtime.NumGoroutine()-goroutines)/idleTunnels)
	return nil
}
