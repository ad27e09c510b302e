//go:build linux

package share_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// Three MCP hosts work with three servers behind one bastion. The person has done nothing for it,
// and sees in `sallyport status` that there is one connection, and who uses it.
func TestThreeHosts(t *testing.T) {
	t.Parallel()
	c := newCrew(t, machines.SSHDOptions{})
	servers := []string{c.up.url, machines.StartMCP(t, c.ns), machines.StartEverything(t, c.ns)}
	var hosts []*machines.Host
	for _, server := range servers {
		c.args[len(c.args)-1] = server
		hosts = append(hosts, machines.StartHost(t, c.ns.Move(t, c.command()), nil))
	}
	for i, host := range hosts {
		for range i + 1 {
			host.Tools(t)
		}
	}
	c.checkLogins(1)
	status, code := c.run("status")
	t.Logf("$ sallyport status\n%s", status)
	if code != machines.StatusDone {
		t.Errorf("status %d", code)
	}
	at := strings.Index(status, "shared connection ")
	if at < 0 || strings.Count(status, "shared connection ") < 1 {
		t.Fatal("no shared connection")
	}
	shared := status[at:]
	if pid := fmt.Sprint(c.share()); !regexp.MustCompile(`^shared connection .*\b` + pid + `\b`).MatchString(shared) {
		t.Errorf("it is process %s", pid)
	}
	for i, host := range hosts {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^.*\b%d\b.*%s`, host.PID(), regexp.QuoteMeta(servers[i]))).MatchString(shared) {
			t.Errorf("it does not name %d, which talks to %s", host.PID(), servers[i])
		}
	}
	hosts[0].Close(t)
	hosts[1].Close(t)
	status, _ = c.run("status")
	t.Logf("after two hosts have ended:\n$ sallyport status\n%s", status)
	hosts[2].Tools(t)
	hosts[2].Close(t)
	status, _ = c.run("status")
	t.Logf("after all have ended:\n$ sallyport status\n%s", status)
	c.checkLogins(1)
	c.share() // for the next one
	c.end()
}
