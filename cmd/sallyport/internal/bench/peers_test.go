//go:build linux

package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

// place is where the server is, and how a contender gets there: one table.
type place struct {
	name      string
	roundTrip time.Duration
	via       bool
	work      work
	rows      []peerRow
}

// places are the tables against the peers. With loopback the network costs nothing; what is left is
// the floor, and there alone is the memory of one process read.
func places() []place {
	near := work{Calls: 1000, Many: 6000, Larges: 5, Memory: true}
	office := work{Calls: 60, Many: 1600, Larges: 3}
	abroad := work{Calls: 20, Many: 640, Larges: 3}
	fleet := work{Calls: 20, Fleet: 30}
	const office10, abroad50 = 10 * time.Millisecond, 50 * time.Millisecond
	return []place{
		{"direct, 10 ms", office10, false, office, directRows},
		{"direct, 50 ms", abroad50, false, abroad, directRows},
		{"via, 10 ms", office10, true, office, viaRows},
		{"via, 50 ms", abroad50, true, abroad, viaRows},
		{"direct, loopback", 0, false, near, loopbackRows},
		{"via, loopback", 0, true, near, loopbackRows},
		{"30 at once, direct, 10 ms", office10, false, fleet, fleetRows},
		{"30 at once, via, 10 ms", office10, true, fleet, fleetRows},
	}
}

// BenchmarkAgainstPeers prints a table for each place: sallyport against mcp-oauth2-proxy and
// mcp-remote (npm). The same client drives each of them through stdin and stdout, with the same MCP
// server behind TLS. The floor is the same calls by a bare HTTP client of Go. Between them stands
// testdata/naive, a pass-through in Go: what it loses against the floor is the price of one more
// process. With --via a real sshd, the others go through the real `ssh -L`, which is connected
// before they start: their start has no SSH login in it. Memory is the proportional set size.
//
// SALLYPORT_BENCH_ROUNDS is the number of rounds (3), with which it takes about ten minutes.
// SALLYPORT_BENCH_ONLY takes the places that have this text in their name: "direct", "via, 50 ms",
// "30 at once". SALLYPORT_BENCH_PEERS=0 leaves out the npm programs. It needs root, for network
// namespaces.
func BenchmarkAgainstPeers(b *testing.B) {
	machines.NeedProgram(b, "ssh", "openssh-client")
	count := rounds(b, 3)
	for _, p := range places() {
		if wanted(p.name) {
			fmt.Printf("\n%s\n", p.measure(b, count))
		}
	}
	finish(b)
}

// measure starts the server and what leads to it, lets all contenders take turns, and writes the
// table.
func (p place) measure(t testing.TB, rounds int) string {
	t.Helper()
	near, far, ip := apart(t, p.roundTrip, largePackets)
	var site *site
	upstreamIP := ip
	if p.via {
		site = newSite(t, near, far, ip)
		upstreamIP = "127.0.0.1" // the hop alone can reach it
	}
	addr, ca := startUpstream(t, far, upstreamIP)
	list := contenders(t, addr, addr, ca, nil)
	if p.via {
		forward := site.startForward(t, addr)
		defer forward.Stop()
		list = contenders(t, addr, forwardAddr, ca, []string{"-F", site.config, "--via", site.hops[0]})
	}
	if p.work.Fleet > 0 {
		list = list[1:] // the floor is no process
	}
	all := make([][]figures, len(list))
	for range rounds {
		for i, c := range list {
			all[i] = append(all[i], drive(t, near, p.work, c)[0])
		}
	}
	return peerTable(p, list, all)
}

// contenders are the floor, ours, and the peers. upstream is the server's address as sallyport's
// last hop sees it; seen is the address by which the others reach it.
func contenders(t testing.TB, upstream, seen string, ca *machines.Authority, via []string) []contender {
	t.Helper()
	url := "https://" + seen + "/mcp"
	list := []contender{
		{Name: "floor", URL: url, CAFile: ca.File},
		sallyport(t, upstream, ca, append(alone.flags(t), via...)...),
		{Name: "naive", Command: []string{buildNaive(t), url}, Env: environment(t, seen, ca)},
	}
	if os.Getenv("SALLYPORT_BENCH_PEERS") == "0" {
		return list
	}
	node := machines.Node(t)
	return append(list,
		contender{
			Name:    "mcp-oauth2-proxy",
			Command: []string{node, machines.PeerFile(t, "mcp-oauth2-proxy/dist/index.js")}, Env: append(environment(t, seen, ca), "UPSTREAM_URL="+url),
		},
		contender{Name: "mcp-remote", Command: []string{node, machines.PeerFile(t, "mcp-remote/dist/proxy.js"), url}, Env: environment(t, seen, ca)})
}

// sallyport is ours, with flags, in a home of its own. upstream is the server's address as it is to
// be dialed.
func sallyport(t testing.TB, upstream string, ca *machines.Authority, flags ...string) contender {
	t.Helper()
	command := slices.Concat([]string{machines.Sallyport(t)}, flags, []string{"https://" + upstream + "/mcp"})
	return contender{Name: "sallyport", Command: command, Env: environment(t, upstream, ca)}
}

// environment is that of a contender: a home, and a client of the token endpoint at an address.
func environment(t testing.TB, addr string, ca *machines.Authority) []string {
	t.Helper()
	home := t.TempDir()
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_RUNTIME_DIR=" + home, "MCP_REMOTE_CONFIG_DIR=" + home,
		"SALLYPORT_CA_FILE=" + ca.File, "SSL_CERT_FILE=" + ca.File, "NODE_EXTRA_CA_CERTS=" + ca.File,
		"OAUTH2_GRANT=client_credentials", "OAUTH2_CLIENT_ID=bench", "OAUTH2_CLIENT_SECRET=bench-secret",
		"OAUTH2_TOKEN_URL=https://" + addr + "/token", "DISCOVERY_ENABLED=false", "LOG_LEVEL=error",
	}
}

// buildNaive builds the pass-through without a proxy's duties.
func buildNaive(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "naive")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "./testdata/naive")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// peerTable writes a table. The first contender is the floor, except of a fleet.
func peerTable(p place, list []contender, all [][]figures) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", p.name)
	for _, c := range list {
		fmt.Fprintf(&b, " %s |", c.Name)
	}
	fmt.Fprintf(&b, " sallyport must reach |\n|%s\n", strings.Repeat("---|", len(list)+2))
	for _, row := range p.rows {
		fmt.Fprintf(&b, "| %s |", row.what)
		var values []float64
		for i := range list {
			values = append(values, row.figure(all[i]))
			fmt.Fprintf(&b, " %s |", row.cell(values, p.work.Fleet == 0))
		}
		fmt.Fprintf(&b, " %s |\n", row.target)
	}
	return b.String()
}
