package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What each contender does in a round.
const (
	peerCalls    = 1000 // one at a time
	peerInFlight = 64
	peerMany     = 6000    // in flight by peerInFlight
	peerLarge    = 8 << 20 // bytes of a large result
	peerLarges   = 7
	peerSettle   = time.Second // before memory is read, for what a process does after work
)

// peerFigures is what one contender reached in one round.
type peerFigures struct {
	Spawn       time.Duration // from the start of the process to the answer to initialize
	P50, P99    time.Duration // of one call at a time
	Rate        float64       // calls a second, peerInFlight in flight
	Large       time.Duration // median
	Idle, After float64       // resident memory, MiB
}

// peerRow is a line of the table.
type peerRow struct {
	what, unit, target string
	viaTarget          string // with --via; "" none
	figure             func(f peerFigures) float64
	spawned            bool // a figure of processes only, which the floor has not
}

func milliseconds64(d time.Duration) float64 { return float64(d) / 1e6 }

var peerRows = []peerRow{
	{"spawn to initialize answer", "ms", "≤ 1/15 of mcp-oauth2-proxy", "", func(f peerFigures) float64 { return milliseconds64(f.Spawn) }, true},
	{"one call at a time, p50", "us", "≤ 1.3 x floor", "≤ 1.1 x floor", func(f peerFigures) float64 { return float64(f.P50) / 1e3 }, false},
	{"one call at a time, p99", "us", "≤ 2 x floor", "", func(f peerFigures) float64 { return float64(f.P99) / 1e3 }, false},
	{"calls/s, 64 in flight", "", "≥ 0.8 x floor", "≥ 1.2 x floor", func(f peerFigures) float64 { return f.Rate }, false},
	{"one 8 MiB result", "ms", "≤ 2 x floor", "", func(f peerFigures) float64 { return milliseconds64(f.Large) }, false},
	{"resident memory idle", "MiB", "≤ 14", "", func(f peerFigures) float64 { return f.Idle }, true},
	{"resident memory after the run", "MiB", "≤ 48", "", func(f peerFigures) float64 { return f.After }, true},
}

// BenchmarkAgainstPeers prints a Markdown table: sallyport against mcp-oauth2-proxy and mcp-remote (npm), each driven through
// stdio by the same client against the same light upstream, and against the floor, the same calls by a bare Go HTTP client. Between them
// stands testdata/naive, a pass-through in Go: what it loses against the floor is the price of being a process more. A
// second table is of sallyport --via a real sshd, against the client and the others through the real `ssh -L`. Each figure is the
// median of SALLYPORT_BENCH_ROUNDS rounds (5) in which all take turns. SALLYPORT_BENCH_ONLY="direct" or "via" takes one table,
// SALLYPORT_BENCH_PEERS=0 leaves out the npm programs. It needs root, for network namespaces.
func BenchmarkAgainstPeers(b *testing.B) {
	needProgram(b, "ssh", "openssh-client")
	rounds := int(benchSetting(b, "SALLYPORT_BENCH_ROUNDS", 5))
	ns := newNetns(b)
	_, upstream := startRole(b, ns, "light", nil)
	u, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	only := os.Getenv("SALLYPORT_BENCH_ONLY")
	if strings.Contains("direct", only) {
		fmt.Printf("\n%s\n", peerTable(b, ns, rounds, peerContenders(b, upstream, upstream, nil), "floor"))
	}
	if strings.Contains("via", only) {
		site := newBenchSite(b, ns, ns, "127.0.0.1")
		site.upstream = u.Host
		site.startForward(b)
		forwarded := *u
		forwarded.Host = benchForward
		awaitPort(b, ns, benchForward)
		fmt.Printf("\n%s\n", peerTable(b, ns, rounds, peerContenders(b, upstream, forwarded.String(), []string{"-F", site.config, "--via", site.hops[0]}), "floor, ssh -L"))
	}
	for b.Loop() { // the tables are the result
	}
}

// awaitPort waits until something listens.
func awaitPort(t testing.TB, ns *netns, addr string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		var conn net.Conn
		if err := ns.enter(func() (err error) { conn, err = net.Dial("tcp", addr); return err }); err == nil {
			conn.Close()
			return
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // nothing tells when ssh listens
	}
}

// peerContenders are the floor, ours, and the peers. The floor and the peers use seen, the upstream as they see it.
func peerContenders(t testing.TB, upstream, seen string, via []string) []driveConfig {
	t.Helper()
	token := strings.TrimSuffix(seen, "/mcp") + "/token"
	env := func(token string) []string {
		home := t.TempDir()
		return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "MCP_REMOTE_CONFIG_DIR=" + home,
			"OAUTH2_GRANT=client_credentials", "OAUTH2_CLIENT_ID=bench", "OAUTH2_CLIENT_SECRET=bench-secret", "OAUTH2_TOKEN_URL=" + token, "DISCOVERY_ENABLED=false", "LOG_LEVEL=error"}
	}
	ours := env(strings.TrimSuffix(upstream, "/mcp") + "/token")
	list := []driveConfig{
		{Name: "floor", URL: seen},
		{Name: "sallyport", Command: append(append([]string{buildSallyport(t)}, via...), upstream), Env: ours, via: via != nil},
		{Name: "naive", Command: []string{buildNaive(t), seen}, Env: env(token)},
	}
	if os.Getenv("SALLYPORT_BENCH_PEERS") != "0" {
		node := nodePath(t)
		list = append(list,
			driveConfig{Name: "mcp-oauth2-proxy", Command: []string{node, peerFile(t, "mcp-oauth2-proxy/dist/index.js")}, Env: append(env(token), "UPSTREAM_URL="+seen)},
			driveConfig{Name: "mcp-remote", Command: []string{node, peerFile(t, "mcp-remote/dist/proxy.js"), seen, "--allow-http"}, Env: env(token)})
	}
	return list
}

// buildNaive builds the pass-through without a proxy's duties.
func buildNaive(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "naive")
	if out, err := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "./testdata/naive").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// peerTable drives the contenders by turns and writes the table. The first is the floor, the second sallyport.
func peerTable(t testing.TB, ns *netns, rounds int, contenders []driveConfig, floor string) string {
	t.Helper()
	figures := make([][]peerFigures, len(contenders))
	for range rounds {
		for i, c := range contenders {
			p, line := startRole(t, ns, "drive", c)
			var f peerFigures
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatalf("%s: %v: %s", c.Name, err, line)
			}
			p.stop()
			figures[i] = append(figures[i], f)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s | sallyport | must reach |", floor)
	for _, c := range contenders[2:] {
		fmt.Fprintf(&b, " %s |", c.Name)
	}
	fmt.Fprintf(&b, "\n|%s\n", strings.Repeat("---|", len(contenders)+2))
	for _, row := range peerRows {
		values := make([]float64, len(contenders))
		for i := range contenders {
			var all []float64
			for _, f := range figures[i] {
				all = append(all, row.figure(f))
			}
			slices.Sort(all)
			values[i] = all[len(all)/2]
		}
		cell := func(i int) string {
			text := fmt.Sprintf("%.4g", values[i])
			if !row.spawned && i > 0 {
				text += fmt.Sprintf(" (%.2f x)", values[i]/values[0])
			}
			return text
		}
		floor := "-"
		if !row.spawned {
			floor = cell(0)
		}
		target := row.target
		if contenders[1].via {
			target = cmp.Or(row.viaTarget, "-")
		}
		name := row.what
		if row.unit != "" {
			name += ", " + row.unit
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |", name, floor, cell(1), target)
		for i := 2; i < len(contenders); i++ {
			fmt.Fprintf(&b, " %s |", cell(i))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func init() {
	roles["light"] = playLight
	roles["drive"] = playDrive
}

// lightRequest is what playLight reads of a request.
type lightRequest struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name string `json:"name"`
	} `json:"params"`
}

// lightAnswer is what it answers.
type lightAnswer struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  any             `json:"result,omitempty"`
	Error   any             `json:"error,omitempty"`
}

// playLight is an MCP server that does no more than any server in Go has to: it reads and writes its JSON by encoding/json. It has a token
// endpoint, too, and prints its URL.
func playLight([]byte) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	type content struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	result := func(text string) any { return map[string]any{"content": []content{{"text", text}}} }
	large := strings.Repeat("x", peerLarge)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"t0ken-of-the-bench","token_type":"Bearer","expires_in":3600}`)
	})
	mux.HandleFunc("POST /mcp", func(w http.ResponseWriter, r *http.Request) {
		var req lightRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		if req.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		answer := lightAnswer{Version: "2.0", ID: req.ID}
		switch {
		case req.Method == "initialize":
			answer.Result = map[string]any{"protocolVersion": "2025-11-25", "capabilities": map[string]any{"tools": struct{}{}}, "serverInfo": map[string]string{"name": "light", "version": "1"}}
		case req.Method != "tools/call":
			answer.Error = map[string]any{"code": -32601, "message": "method not found"}
		case req.Params.Name == "large":
			answer.Result = result(large)
		default:
			answer.Result = result("hello")
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer)
	})
	fmt.Printf("http://%s/mcp\n", listener.Addr())
	return http.Serve(listener, mux)
}

// driveConfig is one contender: a URL, which the driver calls itself, or a command that it drives through stdio.
type driveConfig struct {
	Name, URL    string
	Command, Env []string
	via          bool // the targets are those of --via
}

// caller makes calls. It looks at no more of an answer than it must.
type caller interface {
	call(line string) error                                   // one request
	many(total, inFlight int, line func(id int) string) error // as many requests, so many in flight
	resident() (float64, error)                               // memory in MiB
}

// playDrive drives one contender through a round and prints its peerFigures.
func playDrive(text []byte) error {
	var config driveConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	var f peerFigures
	var c caller
	begin := time.Now()
	if config.URL != "" {
		c = &httpCaller{url: config.URL, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: peerInFlight}}}
	} else {
		pipe, err := startPipe(config)
		if err != nil {
			return err
		}
		defer pipe.close()
		c = pipe
	}
	if err := c.call(strings.TrimSuffix(initializeLine, "\n")); err != nil {
		return err
	}
	f.Spawn = time.Since(begin)
	if pipe, ok := c.(*pipeCaller); ok {
		io.WriteString(pipe.in, `{"jsonrpc":"2.0","method":"notifications/initialized"}`+"\n")
	}
	line := func(tool string) func(id int) string {
		return func(id int) string {
			return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":{"message":"hello"}}}`, id, tool)
		}
	}
	small, large := line("echo"), line("large")
	if err := c.call(small(1)); err != nil {
		return err
	}
	var err error
	time.Sleep(peerSettle)
	if f.Idle, err = c.resident(); err != nil {
		return err
	}
	id := 100
	series := func(count int, line func(int) string) (times []time.Duration, err error) {
		for range count {
			id++
			begin := time.Now()
			if err := c.call(line(id)); err != nil {
				return nil, err
			}
			times = append(times, time.Since(begin))
		}
		slices.Sort(times)
		return times, nil
	}
	if _, err := series(peerCalls/5, small); err != nil { // to warm up
		return err
	}
	times, err := series(peerCalls, small)
	if err != nil {
		return err
	}
	f.P50, f.P99 = times[len(times)/2], times[len(times)*99/100]
	begin = time.Now()
	if err := c.many(peerMany, peerInFlight, func(i int) string { return small(1e6 + i) }); err != nil {
		return err
	}
	f.Rate = peerMany / time.Since(begin).Seconds()
	if times, err = series(peerLarges, large); err != nil {
		return err
	}
	f.Large = times[len(times)/2]
	time.Sleep(peerSettle)
	if f.After, err = c.resident(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// httpCaller is the floor.
type httpCaller struct {
	url    string
	client *http.Client
}

func (c *httpCaller) call(line string) error {
	req, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader(line))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (c *httpCaller) many(total, inFlight int, line func(int) string) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, inFlight)
	for range inFlight {
		wg.Go(func() {
			for {
				id := int(next.Add(1))
				if id > total {
					return
				}
				if err := c.call(line(id)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func (c *httpCaller) resident() (float64, error) { return 0, nil }

// pipeCaller drives a process through stdio.
type pipeCaller struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startPipe(config driveConfig) (*pipeCaller, error) {
	cmd := exec.Command(config.Command[0], config.Command[1:]...)
	cmd.Env, cmd.Stderr = config.Env, os.Stderr
	cmd.Dir = filepath.Dir(config.Command[len(config.Command)-1])
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = ""
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	ownGroup(cmd)
	return &pipeCaller{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 1<<20)}, cmd.Start()
}

func (c *pipeCaller) close() {
	c.in.Close()
	c.cmd.Wait()
}

// answer reads a line and reports an error answer. It does not parse: the end of a large one is not looked at.
func (c *pipeCaller) answer() error {
	head, err := c.out.ReadSlice('\n')
	if bytes.Contains(head[:min(len(head), 200)], []byte(`"error"`)) {
		return fmt.Errorf("answer %.300s", head)
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = c.out.ReadSlice('\n')
	}
	return err
}

func (c *pipeCaller) call(line string) error {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return err
	}
	return c.answer()
}

func (c *pipeCaller) many(total, inFlight int, line func(int) string) error {
	slots := make(chan struct{}, inFlight)
	written := make(chan error, 1)
	go func() { // ends with the last line, or with the pipe
		for id := range total {
			slots <- struct{}{}
			if _, err := io.WriteString(c.in, line(id)+"\n"); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for range total {
		if err := c.answer(); err != nil {
			return err
		}
		<-slots
	}
	return <-written
}

func (c *pipeCaller) resident() (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var kib float64
	_, rest, _ := bytes.Cut(text, []byte("VmRSS:"))
	_, err = fmt.Sscan(string(rest), &kib)
	return cmp.Or(kib, 0) / 1024, err
}
