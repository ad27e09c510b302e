package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"sallyport/cmd/sallyport/internal/share"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the scripts of testdata/script, a folder for each command. A script shows what a
// user types and sees: exit status, text on stdout and stderr, and the files that are left.
func TestScript(t *testing.T) {
	folders, err := os.ReadDir(filepath.Join("testdata", "script"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		t.Run(folder.Name(), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{
				Dir:   filepath.Join("testdata", "script", folder.Name()),
				Setup: setUpScript,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"status":   scriptStatus,
					"upstream": scriptUpstream,
					"mutual":   scriptMutual,
					"balancer": scriptBalancer,
					"knob":     scriptKnob,
					"play":     scriptPlay,
					"count":    scriptCount,
					"bastion":  scriptBastion,
					"host":     scriptHost,
					"tool":     scriptTool,
					"hold":     scriptHold,
					"copied":   scriptCopied,
				},
				RequireExplicitExec: true,
			})
		})
	}
}

// setUpScript gives a script a home of its own, a browser that says yes to every login, and ports
// that no other program uses.
func setUpScript(env *testscript.Env) error {
	runtimeDir := filepath.Join(env.WorkDir, "run")
	for name, value := range map[string]string{
		"HOME": env.WorkDir, "USER": "person", "XDG_RUNTIME_DIR": runtimeDir,
		"GORACE":  "atexit_sleep_ms=50", // a second is the default, for each command
		"BROWSER": "visit", "OAUTH2_CALLBACK_PORT": "0", "SALLYPORT_TOKEN_STORE": "file",
	} {
		env.Setenv(name, value)
	}
	world := &scriptWorld{dir: env.WorkDir}
	env.Defer(func() {
		world.close()
		// A shared connection would go on for ten minutes.
		sockets, _ := share.Sockets(share.Dirs([]string{filepath.Join(runtimeDir, "sallyport")}))
		share.Stop(context.Background(), sockets)
	})
	env.Values[worldKey{}] = world
	return os.Mkdir(runtimeDir, 0o700)
}

// scriptStatus is `status N COMMAND...`: the command ends with just this exit status.
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}
