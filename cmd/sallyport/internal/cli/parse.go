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
// An MCP host waits for the proxy's start, so the usual command lines of a proxy are read without
// kong (plainProxy).
func Parse(args []string, env environment.Environment, stdout, stderr io.Writer) (*Invocation, error) {
	if inv := plainProxy(args, env); inv != nil {
		return inv, nil
	}
	if len(args) > 0 && !slices.Contains(CommandNames(), args[0]) {
		if err := checkWord(args[0]); err != nil {
			return nil, err
		}
	}
	inv, err := parser{args: args, env: env, stdout: stdout, stderr: stderr}.parse()
	if err == nil || errors.Is(err, ErrHelp) {
		return inv, err
	}
	if e, ok := errors.AsType[*UsageError](err); ok {
		return nil, e // a mistake in the file of settings
	}
	return nil, &UsageError{Text: err.Error(), Hints: []string{"sallyport --help lists commands and flags"}}
}

// commandFields are the fields of the grammar that are commands, but for the default one.
func commandFields() []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(reflect.TypeFor[grammar]()), func(field reflect.StructField) bool {
		_, isDefault := reflect.TypeFor[defaultCommand]().FieldByName(field.Name)
		return isDefault || field.Tag.Get("name") == ""
	})
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

// parse parses by the whole grammar. It returns ErrHelp after it has printed help.
func (p parser) parse() (inv *Invocation, err error) {
	sources, grammar := &sources{getenv: p.env.Getenv}, new(grammar)
	k, err := newKong(grammar, sources, kong.Help(printHelp), kong.Writers(p.stdout, p.stderr))
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
	if err != nil {
		return nil, err
	}
	inv = &Invocation{Command: kctx.Selected().Target.Addr().Interface()}
	if grammar.ShowVersion {
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
	inv.Warnings = append(sources.unknownFields(knownFields(k.Model)), exposedSecrets(kctx)...)
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
