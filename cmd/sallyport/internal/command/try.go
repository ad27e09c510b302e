package command

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"sallyport/cmd/internal/world"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/person"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/cmd/sallyport/internal/share"
)

// practiceHost is the host of the practice ssh_config that reaches the upstream.
const practiceHost = "inner"

// try starts servers to practise on, says how to use them, and prints what reaches them until ctx
// ends. Whatever the person does with them is kept in a directory that ends with the command.
func try(ctx context.Context, a *app) error {
	dir, err := os.MkdirTemp("", "sallyport-try-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	transcript := world.NewTranscript(a.std.Out)
	w, err := world.New(world.Config{Dir: dir, MCP: http.HandlerFunc(world.Practice), HasPages: true, Say: transcript.Say})
	if err != nil {
		return err
	}
	defer w.Close()
	args := []string{
		"--via", practiceHost, "-F", w.SSHConfig, "--ca-file", w.CAFile, "--issuer", w.Login.Issuer,
		"--state-dir", filepath.Join(dir, "state"), w.Upstream,
	}
	var words []string
	for _, arg := range args {
		words = append(words, session.ShellWord(arg))
	}
	typed := strings.Join(words, " ")
	entry := map[string]any{"mcpServers": map[string]any{"practice": map[string]any{
		"command": cmp.Or(a.env.Executable, "sallyport"), "args": args,
	}}}
	transcript.Heading("Sign in: type this in another terminal, and press the button on the page that opens")
	fmt.Fprintln(a.std.Out, "  sallyport login "+typed)
	transcript.Heading("Or write it into an MCP host as well: sallyport install --list shows which CLIENT is here")
	fmt.Fprintln(a.std.Out, "  sallyport install --client CLIENT --name practice "+typed)
	transcript.Heading("Or put this into your MCP host, and let it call the tool greet")
	if err := person.WriteJSON(a.std.Out, entry); err != nil {
		return err
	}
	transcript.Heading("What happens, until you press Ctrl-C. Then all of it is removed")
	<-ctx.Done()
	stopPractice(ctx, a, w.SSHConfig)
	return context.Cause(ctx)
}

// stopPractice ends the shared connection to the practice bastions, which would only try to reach
// them from now on.
func stopPractice(ctx context.Context, a *app, sshConfig string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	ssh := session.SSH{Settings: cli.SSH{SSHConfig: sshConfig}, Env: a.env, SocketDirs: a.controlDirs(cli.Store{}), Log: a.log}
	chain, err := ssh.Resolver().Chain(ctx, practiceHost)
	if err != nil {
		return // its file is gone already
	}
	share.Stop(ctx, ssh.Shares(ctx, chain).SocketsOf(chain))
}
