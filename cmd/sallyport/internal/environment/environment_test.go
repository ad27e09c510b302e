package environment

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"testing"
)

// The ~ of SSH is the home of the user database, as for ssh. All else follows HOME.
func TestHomeOfTheAccount(t *testing.T) {
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	t.Setenv("HOME", elsewhere)
	t.Setenv("USERPROFILE", elsewhere)
	env := OfProcess()
	if env.Home != elsewhere || env.AccountHome != u.HomeDir {
		t.Errorf("homes = %q, %q, want %q, %q", env.Home, env.AccountHome, elsewhere, u.HomeDir)
	}
}

func TestSessionBus(t *testing.T) {
	dir := t.TempDir()
	for _, runtimeDir := range []string{"", dir} {
		env := Fixed(map[string]string{"XDG_RUNTIME_DIR": runtimeDir}, t.TempDir())
		if got := env.SessionBus(); got != "" {
			t.Errorf("got %q where no bus runs", got)
		}
	}
	bus, err := net.Listen("unix", filepath.Join(dir, "bus"))
	if err != nil {
		t.Skip("no unix sockets here: ", err)
	}
	defer bus.Close()
	variables := map[string]string{"XDG_RUNTIME_DIR": dir}
	env := Fixed(variables, t.TempDir())
	if got, want := env.SessionBus(), "unix:path="+filepath.Join(dir, "bus"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if os.Geteuid() == 0 { // only root can give a file away
		if err := os.Lchown(filepath.Join(dir, "bus"), 60_125, 60_125); err != nil {
			t.Fatal(err)
		}
		if got := env.SessionBus(); got != "" {
			t.Errorf("got %q, the bus of another user", got)
		}
	}
	variables["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/elsewhere"
	if got := env.SessionBus(); got != "unix:path=/elsewhere" {
		t.Errorf("got %q, want what the variable names", got)
	}
}

// Some MCP hosts hand on a reference to a variable that they cannot expand.
func TestVariablesLeftUnexpanded(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        bool
	}{
		{"SSH_AUTH_SOCK", "$SSH_AUTH_SOCK", false},
		{"SSH_AUTH_SOCK", "${XDG_RUNTIME_DIR}/agent", false},
		{"SSH_AUTH_SOCK", "/run/user/1000/agent", true},
		{"SSH_AUTH_SOCK", "", true},
		{"UPSTREAM_URL", "${UPSTREAM_URL}", false},
		{"UPSTREAM_URL", "${env:UPSTREAM_URL}", false},
		{"UPSTREAM_URL", "%UPSTREAM_URL%", false},
		{"UPSTREAM_URL", "${OTHER}", true},
		{"SALLYPORT_HEADER", "Authorization: ${TOKEN}", true},
	} {
		t.Setenv(test.name, test.value)
		env := OfProcess()
		_, got := os.LookupEnv(test.name)
		if got = got || env.Getenv(test.name) != ""; got != test.want {
			t.Errorf("%s=%s: set is %t, want %t", test.name, test.value, got, test.want)
		}
		os.Unsetenv(test.name) // t.Setenv restores what was there before
	}
}

func TestCompareVersions(t *testing.T) {
	for _, tt := range []struct {
		a, b  string
		order int
		ok    bool
	}{
		{"0.9.0", "0.10.0", -1, true}, {"v0.9.0", "0.9.0", 0, true}, {"1.0.0", "v0.9.9", 1, true},
		{"1.0.0-rc.1", "1.0.0", -1, true}, {"1.0.0", "1.0.0+linux", 0, true},
		{"1.0.0", "devel", 0, false}, {"7034632", "1.0.0", 0, false}, {"vv1.0.0", "1.0.0", 0, false}, {"", "", 0, false},
	} {
		order, ok := CompareVersions(tt.a, tt.b)
		if ok != tt.ok || ok && order != tt.order {
			t.Errorf("%q and %q: %d, %t; want %d, %t", tt.a, tt.b, order, ok, tt.order, tt.ok)
		}
	}
}
