package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// printHelp prints the commands and, below them, the flags of the default one. Kong itself would
// print no flag there, and people look for those of the default command.
func printHelp(options kong.HelpOptions, kctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(options, kctx); err != nil || kctx.Selected() != nil {
		return err
	}
	proxy, err := kong.Trace(kctx.Kong, []string{"proxy"})
	if err != nil {
		return err
	}
	fmt.Fprint(kctx.Stdout, "\nThe default command:\n\n")
	return kong.DefaultHelpPrinter(options, proxy)
}

// helpWithVariables adds a flag's environment variables to its help. It is kong's hook for the text
// of one flag.
func helpWithVariables(v *kong.Value) string {
	if v.Flag == nil || v.Flag.Name == "help" || len(variables(v.Flag)) == 0 {
		return v.Help
	}
	names := variables(v.Flag)
	return v.Help + " ($" + strings.Join(names, ", $") + ")"
}
