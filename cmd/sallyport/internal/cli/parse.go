package cli

import (
	"errors"
	"io"
	"reflect"
	"slices"

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

// Parse reads args, the variables of env, the file of settings and the defaults, in this order of
// precedence. Help goes to stdout. The error is ErrHelp or a *UsageError.
//
// An MCP host waits for the proxy's start, and kong takes three times as long to lay out the flags
// of all commands as those of the proxy (BenchmarkParse). So the first attempt knows the other
// commands by name only. If args choose one of them, or ask for help, the whole grammar is laid
// out.
func Parse(args []string, env environment.Environment, stdout, stderr io.Writer) (*Invocation, error) {
	if len(args) > 0 && !slices.Contains(CommandNames(), args[0]) {
		if err := checkWord(args[0]); err != nil {
			return nil, err
		}
	}
	p := parser{args: args, env: env, stdout: stdout, stderr: stderr}
	noHelp := kong.Help(func(kong.HelpOptions, *kong.Context) error { return errNotProxy })
	inv, err := p.parse(new(defaultCommand), append(otherCommands(), noHelp)...)
	if errors.Is(err, errNotProxy) {
		inv, err = p.parse(new(grammar), kong.Help(printHelp))
	}
	if err == nil || errors.Is(err, ErrHelp) {
		return inv, err
	}
	if e, ok := errors.AsType[*UsageError](err); ok {
		return nil, e // a mistake in the file of settings
	}
	return nil, &UsageError{Text: err.Error(), Hints: []string{"sallyport --help lists commands and flags"}}
}

// errNotProxy says that args choose another command than the proxy, or ask for help.
var errNotProxy = errors.New("not the proxy")

// otherCommands names all commands but the default one, without their flags.
func otherCommands() []kong.Option {
	var commands []kong.Option
	for _, field := range commandFields() {
		commands = append(commands, kong.DynamicCommand(field.Tag.Get("name"), field.Tag.Get("help"), "", new(onlyNamed)))
	}
	return commands
}

// commandFields are the fields of the grammar that are commands, but for the default one.
func commandFields() []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(reflect.TypeFor[grammar]()), func(field reflect.StructField) bool {
		_, isDefault := reflect.TypeFor[defaultCommand]().FieldByName(field.Name)
		return isDefault || field.Tag.Get("name") == ""
	})
}

// onlyNamed is a command whose flags are not laid out.
type onlyNamed struct{}

// onlyNames reports whether a command was chosen whose flags are not laid out.
func onlyNames(kctx *kong.Context) bool {
	selected := kctx.Selected()
	return selected != nil && selected.Target.Type() == reflect.TypeFor[onlyNamed]()
}

// parser parses one command line.
type parser struct {
	// args are the arguments without the program's name.
	args []string
	// env gives the variables.
	env environment.Environment
	// stdout gets the help, and stderr what kong has to say.
	stdout, stderr io.Writer
}

// helpShown is what kong's exit hook throws after --help, because kong itself would go on parsing.
type helpShown struct{}

// parse parses by a grammar, which it fills. It returns errNotProxy if args choose a command that
// the grammar only names, and ErrHelp after it has printed help.
func (p parser) parse(grammar any, options ...kong.Option) (inv *Invocation, err error) {
	sources := &sources{getenv: p.env.Getenv}
	k, err := newKong(grammar, sources, append(options, kong.Writers(p.stdout, p.stderr))...)
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
	kctx, err := k.Parse(p.args)
	// The flags of a command that is only named are unknown here, and so an error.
	if e, ok := errors.AsType[*kong.ParseError](err); ok && onlyNames(e.Context) || err == nil && onlyNames(kctx) {
		return nil, errNotProxy
	}
	if err != nil {
		return nil, err
	}
	inv = &Invocation{Command: kctx.Selected().Target.Addr().Interface()}
	if wantsVersion(grammar) {
		return &Invocation{Command: new(VersionCommand)}, nil
	}
	if err := checkCommand(inv.Command); err != nil {
		return nil, err
	}
	if c, ok := inv.Command.(interface{ common() Common }); ok {
		inv.Common = c.common()
	}
	switch c := inv.Command.(type) {
	case *InstallCommand:
		c.Given = p.given(kctx)
	case *CallbackCommand:
		c.Given = p.given(kctx)
	}
	inv.Warnings = append(sources.unknownFields(k.Model), exposedSecrets(kctx)...)
	if c, ok := inv.Command.(*DoctorCommand); ok {
		c.Given, c.Warnings = sources.given(kctx), inv.Warnings
	}
	if c, ok := inv.Command.(*LoginCommand); ok && c.Paste && c.URL != "" {
		inv.Warnings = append(inv.Warnings, pasteWarning)
	}
	return inv, nil
}

// newKong lays out the grammar. Flags that the arguments leave out are looked up in sources.
func newKong(grammar any, sources *sources, options ...kong.Option) (*kong.Kong, error) {
	return kong.New(grammar, append(options,
		kong.Name("sallyport"),
		kong.Description("An MCP stdio proxy to remote, OAuth2-protected MCP servers that manages its own SSH tunnels."),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.ExplicitGroups(flagGroups),
		kong.Resolvers(sources),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.ValueFormatter(helpWithVariables),
	)...)
}
