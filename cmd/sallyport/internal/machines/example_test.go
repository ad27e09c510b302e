//go:build linux

package machines_test

import (
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// A service reaches an MCP server behind one bastion. The site holds everything that is real in it;
// the host is what starts the command.
func ExampleStartHost() {
	var t *testing.T // a test's own

	site := machines.NewSite(t, 1, machines.StartMCP)
	host := machines.StartHost(t, site.AsMachine(t), nil)
	host.Echo(t)

	site.Hops[0].SSHD.Drop() // the network fails
	host.Stderr.Await(t, `msg="link lost"`)
	host.Echo(t)
	host.Close(t)
}

// A person signs in at a browser, on the machine of the tests, where the port of the callback is
// free.
func ExamplePerson() {
	var t *testing.T // a test's own

	site := machines.NewDirectSite(t, machines.OIDCOptions{})
	login := machines.StartProcess(t, site.Command(t, t.TempDir(), "login", "--no-browser", site.Gate.URL))
	url := login.Err.Await(t, machines.Offered)[1]
	page := machines.Person{TrustsAll: true}.LogsIn(t, url)
	machines.CheckSuccessPage(t, page, machines.DefaultCallback, site.Gate.URL)
	if status := login.Wait(t); status != machines.StatusDone {
		t.Errorf("status %d", status)
	}
}
