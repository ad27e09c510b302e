package install

import "testing"

// TestHealthOf shows what is quoted of the hosts' health checks, as they print them.
func TestHealthOf(t *testing.T) {
	for output, want := range map[string]string{
		"site:\n  Scope: User config\n  Status: ✔ Connected\n  Type: stdio\n":            "site: Status: ✔ Connected",
		"Configured MCP servers:\n\n\x1b[32m✓\x1b[0m site: /opt/sallyport - Connected\n": "✓ site: /opt/sallyport - Connected",
		"●  ✓ site connected\n│      /opt/sallyport\n":                                   "●  ✓ site connected",
		"site\n  enabled: true\n":           "site enabled: true",
		"my-site: x\nsites: y\nsite-2: z\n": "",
		"":                                  "",
	} {
		if got := healthOf(output, "site"); got != want {
			t.Errorf("%q is quoted as %q, want %q", output, got, want)
		}
	}
	for said, want := range map[string]bool{
		"✔ Connected": false, "enabled: true": false, "✗ site: x - Disconnected": true, "Status: ⏸ Pending approval": true, "site failed": true, "site disabled": true,
	} {
		if got := badHealth().MatchString(said); got != want {
			t.Errorf("%q is bad: %v, want %v", said, got, want)
		}
	}
}
