package cli

import (
	"errors"
	"io"

	"sallyport/cmd/sallyport/internal/environment"

	"github.com/alecthomas/kong"
)

// ErrHelp says that --help was given, and that Parse has printed the help.
var ErrHelp = errors.New("help was shown")

// Invocation is a parsed command line.
type Invocation struct {
	// Command is the command that was chosen: a pointer to one of the Command structs.
	Command any
	// Common holds the settings that every command has. It is zero for a command that reads none.
	Common Common
	// Warnings are for the person, one line each.
	Warnings []string
}

// helpShown is what kong's exit hook throws after --help, because kong itself would go on parsing.
type helpShown struct{}

// Parse reads args, the variables of env, the file of settings and the defaults, in this order of
// precedence. Help goes to stdout. The error is ErrHelp or a *UsageError.
func Parse(args []string, env environment.Environment, stdout, stderr io.Writer) (inv *Invocation, err error) {
	sources := &sources{getenv: env.Getenv}
	parser, err := newParser(sources, stdout, stderr)
	if err != nil {
		return nil, err // a fault in the grammar, which every test sees
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case helpShown:
			err = ErrHelp
		default:
			panic(r)
		}
	}()
	trace, err := kong.Trace(parser, args)
	if err != nil {
		return nil, usage(err)
	}
	if err := sources.readFile(trace); err != nil {
		return nil, err
	}
	kctx, err := parser.Parse(args)
	if err != nil {
		return nil, usage(err)
	}
	inv = &Invocation{Command: kctx.Selected().Target.Addr().Interface()}
	if c, ok := inv.Command.(interface{ common() Common }); ok {
		inv.Common = c.common()
	}
	inv.Warnings = append(sources.unknownFields(parser.Model), exposedSecrets(kctx)...)
	return inv, nil
}

func newParser(sources *sources, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(new(grammar),
		kong.Name("sallyport"),
		kong.Description("An MCP stdio proxy to remote, OAuth2-protected MCP servers that manages its own SSH tunnels."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.ExplicitGroups(flagGroups),
		kong.Resolvers(sources),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(helpWithVariables),
	)
}

func usage(err error) error {
	return &UsageError{Text: err.Error(), Hints: []string{"sallyport --help lists commands and flags"}}
}
