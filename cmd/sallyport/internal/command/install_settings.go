package command

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/install"
)

// keptSettings turns the settings of an install command into the arguments of its entry. Many hosts
// keep their configuration readable for everybody, show it, or send it to another machine, so no
// secret comes into an entry: each goes into a file of this user's.
type keptSettings struct {
	app     *app
	command *cli.InstallCommand
	// upstream and name are those of the entry. The names of the files are made of them.
	upstream *url.URL
	name     string
}

// secretFiles names the flag that takes a file in place of the value of each secret flag.
var secretFiles = map[string]string{
	"client-secret": "client-secret-file", "idp-client-secret": "idp-client-secret-file", "header": "header-file",
}

// usedOnce are secrets that are of no use to a program that starts often.
var usedOnce = []string{"refresh-token", "authorization-code", "code-verifier", "extra-params"}

// arguments returns the words of the command line in front of the URL.
func (k keptSettings) arguments() ([]string, error) {
	var args []string
	for _, s := range k.command.Given {
		switch fileFlag := secretFiles[s.Flag]; {
		case slices.Contains(usedOnce, s.Flag):
			k.app.messages.Report(fmt.Sprintf("--%s is not in the entry: it is a secret, and for this sign-in only", s.Flag), nil)
		case fileFlag == "" || s.Flag == "header" && !slices.ContainsFunc(s.Values, isSecretHeader):
			args = append(args, s.Arguments...)
		default:
			path, err := k.hide(s, fileFlag)
			if err != nil {
				return nil, err
			}
			args = append(args, "--"+fileFlag, path)
		}
	}
	for name := range k.upstream.Query() {
		if cli.IsSecretName(name) {
			k.app.messages.Report(fmt.Sprintf("the parameter %q of the URL comes into the host's file, for everybody who can read that", name), nil)
		}
	}
	return args, nil
}

// isSecretHeader reports whether a header should not stand in an entry. One that refers to a
// variable should not either: some hosts put the value there before they start the program.
func isSecretHeader(header string) bool {
	name, _, _ := strings.Cut(header, ":")
	return cli.IsSecretName(name) || cli.VariableReference().MatchString(header)
}

// hide writes the values of a setting into a file, one a line, and returns its path.
func (k keptSettings) hide(s cli.Setting, fileFlag string) (string, error) {
	if slices.ContainsFunc(k.command.Given, func(other cli.Setting) bool { return other.Flag == fileFlag }) {
		return "", &cli.UsageError{
			Text:  fmt.Sprintf("--%s holds a secret, which would stand in the host's file", s.Flag),
			Hints: []string{"put it into the file of --" + fileFlag},
		}
	}
	dir := secretDir(k.app.env)
	if dir == "" {
		return "", &cli.UsageError{Text: "no home directory to keep the secret in", Hints: []string{"set HOME"}}
	}
	account := sha256.Sum256([]byte(k.upstream.String() + "\n" + k.command.Profile))
	path := filepath.Join(dir, fmt.Sprintf("%s-%s-%s", k.name, hex.EncodeToString(account[:4]), s.Flag))
	k.app.messages.Say("the secret of --%s goes into a file that only you can read, not into the entry: %s", s.Flag, path)
	if k.command.DryRun {
		return path, nil
	}
	return path, install.WriteSecret(path, strings.Join(s.Values, "\n")+"\n")
}

// secretDir is where hide writes. It is empty if there is no home directory.
func secretDir(env Environment) string {
	if dir := env.ConfigDir(); dir != "" {
		return filepath.Join(dir, "secrets")
	}
	return ""
}
