//go:build unix

package share

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// The test binary starts itself as a client, and each client starts it as a share. A share inherits
// the variables LC_*, so that those reach it.
const (
	clientVariable = "TEST_CLIENT"   // the JSON of a clientRole
	stepVariable   = "LC_TEST_STEP"  // the step at which a process stops, or is killed
	signalVariable = "LC_TEST_DEATH" // set if it is killed
	dirVariable    = "LC_TEST_DIR"   // a process that stops writes its number to a file there
	shareVersion   = "LC_TEST_VERSION"
)

// clientRole is a process that uses a chain of hosts.
type clientRole struct {
	// Config is an ssh_config that leads to the host "site".
	Config string
	// Dirs are those of shares.
	Dirs []string
	// Settings are those of a share that it starts.
	Settings Settings
	// Version is that of its program.
	Version string
}

func TestMain(m *testing.M) {
	atStep = stopAt
	env := environment.OfProcess()
	switch {
	case IsProcess(env):
		env.Version = os.Getenv(shareVersion)
		process := Process{Env: env, Stdin: os.Stdin, OpenLog: openTestLog}
		// main ends a share by these as well.
		ctx, stop := signalContext()
		defer stop()
		if err := process.Run(ctx); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	case os.Getenv(clientVariable) != "":
		if err := runClient(env); err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stopAt stops or kills this process at the step that the environment names. Only the first process
// that gets there is.
func stopAt(step string) {
	if os.Getenv(stepVariable) != step {
		return
	}
	file, err := os.OpenFile(filepath.Join(os.Getenv(dirVariable), "met"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	fmt.Fprintf(file, "%d\n", os.Getpid())
	file.Close()
	if os.Getenv(signalVariable) != "" {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	syscall.Kill(os.Getpid(), syscall.SIGSTOP)
}

// openTestLog logs to the file that the starter names.
func openTestLog(s Settings) (*slog.Logger, func()) {
	file, err := os.OpenFile(s.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return slog.New(slog.DiscardHandler), func() {}
	}
	return slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})).With("pid", os.Getpid()), func() { file.Close() }
}

// runClient connects at once and prints "up". For each line on stdin it prints what the command in
// it prints on the last hop. It ends with stdin.
func runClient(env environment.Environment) error {
	var role clientRole
	if err := json.Unmarshal([]byte(os.Getenv(clientVariable)), &role); err != nil {
		return err
	}
	log, closeLog := openTestLog(role.Settings)
	defer closeLog()
	env.Version = role.Version
	client := NewClient(Config{Dirs: role.Dirs, Env: env, IsOwn: cli.IsOwnVariable, Settings: role.Settings, Log: log})
	resolver := &sshconfig.Resolver{UserFile: role.Config, Home: env.AccountHome, User: env.User, Getenv: env.Getenv}
	tunnel, err := sshtunnel.New(sshtunnel.Config{
		Chain:  func(ctx context.Context) ([]*sshconfig.Host, error) { return resolver.Chain(ctx, "site") },
		Getenv: env.Getenv, Log: log, Shared: client.Shared, Purpose: "a test",
	})
	if err != nil {
		return err
	}
	defer tunnel.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := tunnel.Connect(ctx); err != nil {
		return err
	}
	fmt.Println("up")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		out, err := output(ctx, tunnel, lines.Text())
		fmt.Printf("%q %v\n", out, err)
	}
	return nil
}

// output returns what a command prints on the last hop.
func output(ctx context.Context, tunnel *sshtunnel.Tunnel, command string) (string, error) {
	session, err := tunnel.Exec(ctx, command)
	if err != nil {
		return "", err
	}
	defer session.Close()
	text, err := io.ReadAll(session)
	return string(text), err
}
