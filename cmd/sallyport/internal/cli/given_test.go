package cli

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// Each setting is told with the place that counts, and no secret.
func TestGiven(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(file, []byte(`{"ssh":{"via":"fromfile","jump":"first"},"oauth2":{"callbackPort":[1,2]},"nosuch":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{"SALLYPORT_VIA": "fromvariable", "OAUTH2_CLIENT_SECRET": "hush", "UPSTREAM_TIMEOUT_MS": "1500", "UPSTREAM_URL": "https://a.example/?key=hush"}
	args := []string{"doctor", "--json", "--config", file, "--jump", "second", "--header", "X-Key: hush", "--header", "A: ${B}"}
	inv, err := Parse(args, environment.Fixed(variables, t.TempDir()), io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := inv.Command.(*DoctorCommand)
	var got []string
	for _, g := range c.Given {
		got = append(got, g.Name+" "+g.Value+" "+strings.ReplaceAll(g.From, file, "FILE"))
	}
	want := []string{
		"--callback-port 1,2 FILE: oauth2.callbackPort", "--client-secret (hidden) OAUTH2_CLIENT_SECRET", "--config " + file + " command line",
		"--header X-Key: (hidden), A: (hidden) command line", "--jump second command line", "--timeout 1.5s UPSTREAM_TIMEOUT_MS",
		"--via fromvariable SALLYPORT_VIA", "URL https://a.example/ UPSTREAM_URL",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, `"nosuch"`) }) {
		t.Errorf("warnings %q", c.Warnings)
	}
}
