package cli

import (
	"errors"
	"io"
	"reflect"

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
	parser, err := newParser(args, sources, stdout, stderr)
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
	kctx, err := parser.Parse(args)
	if e, ok := errors.AsType[*UsageError](err); ok {
		return nil, e // of the file of settings
	}
	if err != nil {
		return nil, &UsageError{Text: err.Error(), Hints: []string{"sallyport --help lists commands and flags"}}
	}
	inv = &Invocation{Command: kctx.Selected().Target.Addr().Interface()}
	if c, ok := inv.Command.(interface{ common() Common }); ok {
		inv.Common = c.common()
	}
	inv.Warnings = append(sources.unknownFields(parser.Model), exposedSecrets(kctx)...)
	return inv, nil
}

// newParser returns a parser of the command that args choose.
//
// An MCP host waits for the proxy's start, and kong takes three times as long to lay out the flags
// of all commands as those of the proxy (BenchmarkParse). So the first parser knows the other
// commands by name only. It finds out which command args choose. The whole grammar is laid out only
// for another command than the proxy, and for help.
func newParser(args []string, sources *sources, stdout, stderr io.Writer) (*kong.Kong, error) {
	options := []kong.Option{
		kong.Name("sallyport"),
		kong.Description("An MCP stdio proxy to remote, OAuth2-protected MCP servers that manages its own SSH tunnels."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.ExplicitGroups(flagGroups),
		kong.Resolvers(sources),
		kong.Help(printHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(helpWithVariables),
	}
	proxy, err := kong.New(new(defaultCommand), append(otherCommands(), options...)...)
	if err != nil {
		return nil, err
	}
	if isProxy(proxy, args) {
		return proxy, nil
	}
	return kong.New(new(grammar), options...)
}

// otherCommands names all commands but the default one, without their flags.
func otherCommands() []kong.Option {
	var commands []kong.Option
	for field := range reflect.TypeFor[grammar]().Fields() {
		if name := field.Tag.Get("name"); name != "" {
			commands = append(commands, kong.DynamicCommand(name, field.Tag.Get("help"), "", new(struct{})))
		}
	}
	return commands
}

// isProxy reports whether args choose the default command and do not ask for help.
func isProxy(parser *kong.Kong, args []string) bool {
	trace, err := kong.Trace(parser, args)
	if err != nil {
		return false
	}
	for _, path := range trace.Path {
		if path.Flag != nil && path.Flag == parser.Model.HelpFlag {
			return false
		}
	}
	selected := trace.Selected()
	return selected == nil || selected == parser.Model.DefaultCmd
}
