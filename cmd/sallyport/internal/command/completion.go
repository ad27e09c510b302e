package command

import (
	"context"
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/explain"
	"sallyport/cmd/sallyport/internal/install"
	"sallyport/cmd/sallyport/internal/session"
)

// completionScripts hold the script of each shell, under its name.
//
//go:embed completion
var completionScripts embed.FS

// completion prints the script of a shell. The script calls the same command with the words that
// were typed, and gets what may stand there: a word, a tab and its meaning a line, or ":files".
func completion(ctx context.Context, a *app, c *cli.CompletionCommand) error {
	if c.Words == nil {
		script, err := completionScripts.ReadFile("completion/" + c.Shell)
		if err == nil {
			_, err = a.std.Out.Write(script)
		}
		return err
	}
	words := c.Words
	if words[0] == "--" {
		words = words[1:]
	}
	found, err := cli.Complete(words)
	if err != nil {
		return err
	}
	if found.Files {
		_, err := io.WriteString(a.std.Out, ":files\n")
		return err
	}
	last := ""
	if len(words) > 0 {
		last = words[len(words)-1]
	}
	flag := "" // with its equals sign, where the value follows in the same word
	if name, value, ok := strings.Cut(last, "="); ok && strings.HasPrefix(name, "--") {
		flag, last = name+"=", value
	}
	for _, name := range completedNames(ctx, a, found, words) {
		if strings.HasPrefix(name, last) {
			found.Candidates = append(found.Candidates, cli.Candidate{Word: flag + name})
		}
	}
	for _, candidate := range found.Candidates {
		meaning, _, _ := strings.Cut(candidate.Meaning, ". ")
		if _, err := fmt.Fprintln(a.std.Out, strings.TrimSuffix(candidate.Word+"\t"+meaning, "\t")); err != nil {
			return err
		}
	}
	return nil
}

// completedNames lists the hosts of ssh_config, the topics of help, or the MCP hosts, if those fit.
// The words may name another file by -F.
func completedNames(ctx context.Context, a *app, found cli.Completion, words []string) []string {
	var names []string
	if found.Hosts {
		ssh := session.SSH{Env: a.env, Log: a.log}
		if i := slices.Index(words, "-F"); i >= 0 && i+1 < len(words)-1 {
			ssh.Settings.SSHConfig = words[i+1]
		}
		names = ssh.Resolver().Aliases(ctx)
	}
	if found.Topics {
		names = append(names, explain.Topics()...)
		for _, chapter := range readManual(a.env.Manual) {
			names = append(names, chapter.name)
		}
	}
	if found.Clients {
		names = append(names, install.Names()...)
	}
	return names
}
