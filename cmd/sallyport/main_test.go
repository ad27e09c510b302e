package main

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// roleVariable names the part that the test binary plays where it was started again by one of the
// tests: inside a network namespace, say. The part's configuration is in roleConfigVariable, JSON.
const (
	roleVariable       = "SALLYPORT_TEST_ROLE"
	roleConfigVariable = "SALLYPORT_TEST_ROLE_CONFIG"
)

// roles holds what the test binary can be besides a test: name -> what it does until it is ended.
var roles = map[string]func(config []byte) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		os.Exit(play(name))
	}
	testscript.Main(testRun{m}, map[string]func(){"sallyport": main, "visit": visitLink})
}

// play is the whole program in another role; it returns the exit status.
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

// afterTests holds what is to be removed when all tests have run.
var afterTests struct {
	sync.Mutex
	run []func()
}

// afterAll runs f when all tests have run; it may be called by several tests at once.
func afterAll(f func()) {
	afterTests.Lock()
	defer afterTests.Unlock()
	afterTests.run = append(afterTests.run, f)
}

// testRun is a testing.M that cleans up after its tests.
type testRun struct{ *testing.M }

func (r testRun) Run() int {
	defer func() {
		for _, f := range afterTests.run {
			f()
		}
	}()
	return r.M.Run()
}

// needPart ends the test where an external part is missing: ok says whether it is there, what names
// it, how says the way to get it. The test is skipped, or fails where CI=true promised every part.
func needPart(t testing.TB, ok bool, what, how string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s; %s", what, how)
	}
	t.Skipf("missing: %s; %s", what, how)
}
