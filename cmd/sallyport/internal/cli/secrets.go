package cli

import (
	"fmt"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/lazyregexp"

	"github.com/alecthomas/kong"
)

// VariableReference matches ${VARIABLE} in the value of a header. Its first group is the name.
var VariableReference = lazyregexp.New(`\$\{(\w+)\}`)

// secretName matches names of headers and variables whose values commonly are secrets.
var secretName = lazyregexp.New(`(?i)auth|cookie|token|key|secret|password`)

// IsSecretName reports whether a header or variable of this name commonly holds a secret.
func IsSecretName(name string) bool { return secretName().MatchString(name) }

// pasteWarning warns of a callback that stands on the command line.
const pasteWarning = "the secret of --paste on the command line is visible to everybody on this machine, " +
	"and a shell cuts it at an & without quotes; type --paste alone, and give it to the prompt"

// exposedSecrets warns of each secret that stands on the command line, where every user of this
// machine can read it.
func exposedSecrets(kctx *kong.Context) []string {
	var warnings []string
	for _, path := range kctx.Path {
		// A resolved value came from a variable or the file, which other users cannot read.
		if path.Flag == nil || path.Resolved {
			continue
		}
		if remedy := secretRemedy(settingOf(path.Flag), path.Flag.Target.Interface()); remedy != "" {
			warnings = append(warnings, fmt.Sprintf(
				"the secret of --%s on the command line is visible to everybody on this machine; %s", path.Flag.Name, remedy))
		}
	}
	return warnings
}

// secretRemedy says what to use in place of a flag whose value on the command line is a secret. It
// returns "" if the value is none.
func secretRemedy(flag setting, value any) string {
	switch flag.name {
	case "client-secret":
		return "use OAUTH2_CLIENT_SECRET or --client-secret-file"
	case "idp-client-secret":
		return "use SALLYPORT_IDP_CLIENT_SECRET or --idp-client-secret-file"
	case "authorization-code", "code-verifier", "refresh-token":
		return "use " + flag.variables()[0]
	case "header":
		holdsSecret := func(header string) bool {
			name, value, _ := strings.Cut(header, ":")
			return IsSecretName(name) && !VariableReference().MatchString(value)
		}
		if headers, _ := value.([]string); slices.ContainsFunc(headers, holdsSecret) {
			return "write ${VARIABLE} in it, or use SALLYPORT_HEADER"
		}
	}
	return ""
}
