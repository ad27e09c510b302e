//go:build linux

package machines

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// Main is the TestMain of every package whose tests use machines:
//
//	func TestMain(m *testing.M) { machines.Main(m) }
//
// It moves the tests to a machine of their own (see ownMachine), runs them, removes what AfterAll
// was given, and exits. A process that StartRole started plays its role instead.
func Main(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		os.Exit(play(name))
	}
	// Most of a story is waiting, for programs to start and for pauses to pass.
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		flag.Set("test.parallel", "8")
	}
	machine.called = true
	if err := ownMachine(); err != nil {
		fmt.Fprintln(os.Stderr, "machines: no machine of the tests' own:", err)
		os.Exit(1)
	}
	status := m.Run()
	for _, f := range afterTests.run {
		f()
	}
	os.Exit(status)
}

// A process of the test binary plays the role that the first variable names, with the configuration
// in the second one, as JSON.
const (
	roleVariable       = "SALLYPORT_TEST_ROLE"
	roleConfigVariable = "SALLYPORT_TEST_ROLE_CONFIG"
)

var roles = map[string]func(config []byte) error{}

// Role registers what the test binary can be besides a test: a server inside a namespace, say. It
// is called from an init function. play gets the configuration that StartRole was given, as JSON,
// prints a first line when it is ready, and goes on until the process is ended.
func Role(name string, play func(config []byte) error) { roles[name] = play }

// play is the whole program in a role. It returns the exit status.
func play(name string) int {
	role, ok := roles[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "no role %q\n", name)
		return 2
	}
	if err := role([]byte(os.Getenv(roleConfigVariable))); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// StartRole starts the test binary in a role, inside ns, and returns the first line that it prints.
// A nil ns is the tests' own machine. The process ends with the test.
func StartRole(t testing.TB, ns *Namespace, role string, config any) (p *Process, first string) {
	t.Helper()
	cmd := ns.Command(t, testBinary(t))
	cmd.Env = os.Environ()
	return startRole(t, cmd, role, config)
}

// StartRoleAs is StartRole under another account. That account cannot enter the directory of the
// test binary, so a copy is started.
func StartRoleAs(t testing.TB, as *Account, role string, config any) (p *Process, first string) {
	t.Helper()
	// We must not write the copy: a program that another test starts at this moment would inherit
	// the open file, and nobody can execute a file that is open for writing.
	path := filepath.Join(OpenDir(t), "role")
	if out, err := exec.Command("cp", testBinary(t), path).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return startRole(t, as.Command(path), role, config)
}

func startRole(t testing.TB, cmd *exec.Cmd, role string, config any) (p *Process, first string) {
	t.Helper()
	cmd.Env = append(cmd.Env, roleEnvironment(t, role, config)...)
	p = StartProcess(t, cmd)
	return p, p.Out.FirstLine(t)
}

// RoleCommand is the text of a shell command that plays a role, for a configuration file that names
// a program.
func RoleCommand(t testing.TB, role string, config any) string {
	t.Helper()
	text := "exec env"
	for _, entry := range roleEnvironment(t, role, config) {
		text += " '" + entry + "'"
	}
	return text + " " + testBinary(t)
}

func roleEnvironment(t testing.TB, role string, config any) []string {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return []string{roleVariable + "=" + role, roleConfigVariable + "=" + string(text)}
}

// testBinary is the path of this process's program. Without Main it could play no role: it would
// run the tests again.
func testBinary(t testing.TB) string {
	t.Helper()
	if !machine.called {
		t.Fatal("the TestMain of this package has to call machines.Main")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return self
}

var afterTests struct {
	sync.Mutex
	run []func()
}

// AfterAll has Main call f when all tests of the package have run. Several tests may call it at
// once.
func AfterAll(f func()) {
	afterTests.Lock()
	defer afterTests.Unlock()
	afterTests.run = append(afterTests.run, f)
}

// Need ends the test if a part from outside is missing. ok tells whether it is there, what names
// it, and how says the way to get it. The test is skipped; it fails if CI=true promised every part.
func Need(t testing.TB, ok bool, what, how string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s; %s", what, how)
	}
	t.Skipf("missing: %s; %s", what, how)
}

// NeedProgram returns the path of a program. It ends the test, as Need does, if the program's
// Debian package is not installed.
func NeedProgram(t testing.TB, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Need(t, err == nil, name, "apt-get install "+debianPackage+", or .ci/install-parts")
	return path
}

// Setting returns a number that a person may set by an environment variable to make a test longer,
// and value if it is not set.
func Setting(t testing.TB, name string, value int64) int64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return value
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q is not a positive number", name, text)
	}
	return n
}
