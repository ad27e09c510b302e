package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/alecthomas/kong"
)

// environment is what the process was given besides its arguments.
type environment struct {
	Getenv   func(string) string
	Hide     func(string) // keeps a variable from children
	Home     string
	User     string
	Hostname string
}

// usageError is a mistake in flags, variables or files that belong to the command itself: status 2.
type usageError struct {
	text  string
	hints []string
}

func (e *usageError) Error() string { return e.text }

// invocation is a parsed command line.
type invocation struct {
	*kong.Context
	warnings []string
}

// helpShown is what kong's exit hook throws after --help: kong itself would go on parsing.
type helpShown struct{}

// parseArgs fills grammar from flags, environment, file and defaults, in this order of precedence.
func parseArgs(grammar *cli, args []string, env environment, stdout, stderr io.Writer) (inv *invocation, err error) {
	if !namesCommand(args) {
		// The proxy starts with its host, and the flags of all commands take longer to lay out than those of one take to read. What is
		// wrong with it is told by the whole grammar.
		var alone struct {
			Proxy proxyCommand `cmd:"" default:"withargs"`
		}
		if inv, err := parseBy(&alone, args, env, stdout, stderr); err == nil {
			grammar.Proxy = alone.Proxy
			return inv, nil
		}
	}
	return parseBy(grammar, args, env, stdout, stderr)
}

// namesCommand reports whether one of args may name a command, or ask for help.
func namesCommand(args []string) bool {
	var words []string
	for field := range reflect.TypeFor[cli]().Fields() {
		words = append(words, cmp.Or(field.Tag.Get("name"), strings.ToLower(field.Name)))
	}
	return slices.ContainsFunc(args, func(arg string) bool {
		short := strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") // several may share a dash
		return slices.Contains(words, arg) || strings.HasPrefix(arg, "--h") || short && strings.Contains(arg, "h")
	})
}

// parseBy is parseArgs by a grammar for kong.
func parseBy(grammar any, args []string, env environment, stdout, stderr io.Writer) (inv *invocation, err error) {
	sources := &sources{getenv: env.Getenv}
	parser, err := kong.New(grammar,
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
	if err != nil {
		return nil, err // a fault in the grammar, seen by every test
	}
	defer func() {
		switch r := recover().(type) {
		case nil:
		case helpShown:
			err = errHelp
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
	inv = &invocation{Context: kctx, warnings: sources.warnings(parser.Model)}
	for _, path := range kctx.Path {
		if path.Flag == nil || path.Resolved {
			continue
		}
		if remedy := secretFlag(path.Flag); remedy != "" {
			inv.warnings = append(inv.warnings, fmt.Sprintf("the secret of --%s on the command line is visible to everybody on this machine; %s", path.Flag.Name, remedy))
		}
	}
	return inv, nil
}

// secretFlag says what to use instead of a flag that the command line gave a secret to; "" for no secret.
func secretFlag(flag *kong.Flag) (remedy string) {
	switch flag.Name {
	case "client-secret":
		return "use OAUTH2_CLIENT_SECRET or --client-secret-file"
	case "authorization-code", "code-verifier", "refresh-token":
		return "use " + variables(flag)[0]
	case "header":
		literal := func(header string) bool {
			name, value, _ := strings.Cut(header, ":")
			return sensitive.MatchString(name) && !variableReference.MatchString(value)
		}
		if headers, _ := flag.Target.Interface().([]string); slices.ContainsFunc(headers, literal) {
			return "write ${VARIABLE} in it, or use SALLYPORT_HEADER"
		}
	}
	return ""
}

// sensitive matches names of headers and variables whose values commonly are secrets.
var sensitive = regexp.MustCompile(`(?i)auth|cookie|token|key|secret|password`)

var errHelp = errors.New("help was shown")

// printHelp shows the commands and, below them, the flags of the default one.
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

func usage(err error) error {
	return &usageError{text: err.Error(), hints: []string{"sallyport --help lists commands and flags"}}
}

// helpWithVariables adds a flag's environment variables to its help.
func helpWithVariables(v *kong.Value) string {
	if v.Flag == nil || v.Flag.Name == "help" || len(variables(v.Flag)) == 0 {
		return v.Help
	}
	names := variables(v.Flag)
	return v.Help + " ($" + strings.Join(names, ", $") + ")"
}

// variables names the environment variables of a flag, the strongest first.
func variables(flag *kong.Flag) []string {
	switch from := flag.Tag.Get("from"); {
	case flag.Name == "help" || from == "-":
		return nil
	case from != "":
		return strings.Split(from, ",")
	case flag.Hidden:
		return nil
	default:
		return []string{"SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))}
	}
}

// sources is the kong.Resolver that looks a flag up in the environment, then in the JSON file.
type sources struct {
	getenv func(string) string
	path   string
	file   map[string]any // nested objects by field name
}

// readFile loads the file that --config or MCP_PROXY_CONFIG names.
func (s *sources) readFile(trace *kong.Context) error {
	for _, flag := range trace.Flags() {
		if flag.Name == "config" {
			s.path, _ = trace.FlagValue(flag).(string)
		}
	}
	if s.path == "" {
		s.path = s.getenv("MCP_PROXY_CONFIG")
	}
	if s.path == "" {
		return nil
	}
	text, err := os.ReadFile(s.path)
	if err != nil {
		return &usageError{text: "settings file: " + err.Error(), hints: []string{"--config and MCP_PROXY_CONFIG name a JSON file"}}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&s.file); err != nil {
		return &usageError{text: fmt.Sprintf("settings file %s: %v", s.path, jsonPlace(text, err)), hints: []string{"it must hold one JSON object; comments are not allowed"}}
	}
	return nil
}

// jsonPlace adds the line to a JSON syntax error.
func jsonPlace(text []byte, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// Validate implements kong.Resolver.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. An empty variable counts as unset, as MCP hosts pass those on.
func (s *sources) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range variables(flag) {
		if value := s.getenv(name); value != "" {
			got, err := flagValue(flag, value)
			return got, named(name, err)
		}
	}
	field := flag.Tag.Get("field")
	value, ok := s.lookUp(field)
	if !ok {
		return nil, nil
	}
	switch value := value.(type) {
	case string:
		got, err := flagValue(flag, value)
		return got, named(field, err)
	case []any:
		if flag.IsSlice() && flag.Target.Type() != reflect.TypeFor[portList]() {
			return value, nil
		}
		words := make([]string, len(value))
		for i := range value {
			words[i] = fmt.Sprint(value[i])
		}
		return strings.Join(words, ","), nil
	case map[string]any:
		text, err := json.Marshal(value)
		return string(text), named(field, err)
	default: // json.Number, bool
		got, err := flagValue(flag, fmt.Sprint(value))
		return got, named(field, err)
	}
}

func named(source string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// flagValue turns the text of a variable or field into what kong parses.
func flagValue(flag *kong.Flag, text string) (any, error) {
	switch {
	case flag.IsBool():
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "1", "true", "yes", "on":
			return true, nil
		case "0", "false", "no", "off":
			return false, nil
		}
		return nil, fmt.Errorf("want true or false, got %q", text)
	case flag.IsSlice() && flag.Target.Type() != reflect.TypeFor[portList]():
		var list []any
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				list = append(list, line)
			}
		}
		return list, nil
	}
	return text, nil
}

// lookUp finds "oauth2.clientId" in the file; null counts as unset.
func (s *sources) lookUp(field string) (any, bool) {
	if field == "" {
		return nil, false
	}
	object := s.file
	parts := strings.Split(field, ".")
	for _, part := range parts[:len(parts)-1] {
		object, _ = object[part].(map[string]any)
	}
	value := object[parts[len(parts)-1]]
	return value, value != nil
}

// warnings names the fields of the file that no flag of any command reads.
func (s *sources) warnings(app *kong.Application) []string {
	var known []string
	for _, command := range app.Leaves(false) {
		for _, group := range command.AllFlags(false) {
			for _, flag := range group {
				known = append(known, flag.Tag.Get("field"))
			}
		}
	}
	var warnings []string
	for _, field := range fields("", s.file) {
		isKnown := func(k string) bool { return field == k || strings.HasPrefix(field, k+".") && k != "" }
		if !slices.ContainsFunc(known, isKnown) {
			warnings = append(warnings, fmt.Sprintf("settings file %s: field %q is not known and has no effect", s.path, field))
		}
	}
	return warnings
}

// fields lists the dotted names of all leaves, sorted.
func fields(prefix string, object map[string]any) []string {
	var names []string
	for key, value := range object {
		if inner, ok := value.(map[string]any); ok {
			names = append(names, fields(prefix+key+".", inner)...)
		} else {
			names = append(names, prefix+key)
		}
	}
	sort.Strings(names)
	return names
}
