package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/alecthomas/kong"
)

// setting is what the sources know of a flag.
type setting struct {
	// name is the flag's, without hyphens in front.
	name string
	// from and field are the tags of these names, hidden tells whether there is that tag.
	from, field string
	hidden      bool
	// kind is the type of the value.
	kind reflect.Type
}

// settingOf returns what the sources know of a flag of kong's.
func settingOf(flag *kong.Flag) setting {
	return setting{flag.Name, flag.Tag.Get("from"), flag.Tag.Get("field"), flag.Hidden, flag.Target.Type()}
}

// variables names the environment variables of a flag, the strongest first. The tag "-" means that
// the flag has none. A hidden flag has only the one of its tag.
func (s setting) variables() []string {
	switch {
	case s.name == "help" || s.from == "-":
		return nil
	case s.from != "":
		return strings.Split(s.from, ",")
	case s.hidden:
		return nil
	default:
		return []string{"SALLYPORT_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))}
	}
}

// variables names the environment variables of a flag of kong's, the strongest first.
func variables(flag *kong.Flag) []string { return settingOf(flag).variables() }

// ownVariables are the variables of all flags that have others than SALLYPORT_ in front, but for
// BROWSER, which belongs to the system.
var ownVariables = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	addVariables(reflect.TypeFor[grammar](), names)
	delete(names, "BROWSER")
	return names
})

// addVariables adds the variables that the tags of a struct name, and those of the structs in it.
func addVariables(t reflect.Type, names map[string]bool) {
	for field := range t.Fields() {
		if from := field.Tag.Get("from"); from != "" && from != "-" {
			for name := range strings.SplitSeq(from, ",") {
				names[name] = true
			}
		}
		if field.Type.Kind() == reflect.Struct {
			addVariables(field.Type, names)
		}
	}
}

// IsOwnVariable reports whether a variable is a setting of this program. The argument may be
// followed by = and its value.
func IsOwnVariable(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return strings.HasPrefix(name, "SALLYPORT_") || ownVariables()[name]
}

// maxSettings is how long the settings file may be, in bytes.
const maxSettings = 4 << 20

// sources is the kong.Resolver that looks a flag up in the environment, then in the JSON file.
type sources struct {
	// getenv looks a variable up. It returns "" for one that is not set.
	getenv func(string) string
	// loaded says that the file was read, or that there is none.
	loaded bool
	// path is that of the file. It is empty if there is none.
	path string
	// file holds the nested objects of the file, by the names of their fields.
	file map[string]any
	// found says of each flag that was looked up and found where its value comes from.
	found map[string]string
}

// load reads the file that config or MCP_PROXY_CONFIG names, once. The error is a *UsageError.
func (s *sources) load(config string) error {
	if s.loaded {
		return nil
	}
	s.loaded = true
	if s.path = cmp.Or(config, s.getenv("MCP_PROXY_CONFIG")); s.path == "" {
		return nil
	}
	text, err := ReadFile(s.path, maxSettings)
	if err != nil {
		return &UsageError{Text: "settings file: " + err.Error(), Hints: []string{"--config and MCP_PROXY_CONFIG name a JSON file"}}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // a number reaches kong as it was written
	if err := decoder.Decode(&s.file); err != nil {
		return &UsageError{
			Text:  fmt.Sprintf("settings file %s: %v", s.path, withLine(text, err)),
			Hints: []string{"it must hold one JSON object; comments are not allowed"},
		}
	}
	return nil
}

// withLine adds the line to a JSON syntax error. encoding/json counts bytes only.
func withLine(text []byte, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		return fmt.Errorf("line %d: %w", line, err)
	}
	return err
}

// Validate implements kong.Resolver.
func (s *sources) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (s *sources) Resolve(kctx *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	config := ""
	for _, flag := range kctx.Flags() {
		// Kong may ask for another flag before it asks for this one, so its value is taken from the
		// command line.
		if flag.Name == "config" && !s.loaded {
			config, _ = kctx.FlagValue(flag).(string)
		}
	}
	if err := s.load(config); err != nil {
		return nil, err
	}
	return s.find(settingOf(flag))
}

// find looks a flag up. The value is a string, a bool, or a []any for a list. It is nil if nothing
// sets the flag. An empty variable counts as unset, because MCP hosts pass on empty ones.
func (s *sources) find(flag setting) (any, error) {
	for _, name := range flag.variables() {
		if value := s.getenv(name); value != "" {
			s.note(flag.name, name)
			got, err := flag.read(value)
			return got, named(name, err)
		}
	}
	value, ok := s.lookUp(flag.field)
	if !ok {
		return nil, nil
	}
	s.note(flag.name, s.path+": "+flag.field)
	switch value := value.(type) {
	case string:
		got, err := flag.read(value)
		return got, named(flag.field, err)
	case []any:
		if flag.isList() {
			return value, nil
		}
		// A flag such as the ports holds several values in one text, separated by commas.
		words := make([]string, len(value))
		for i := range value {
			words[i] = fmt.Sprint(value[i])
		}
		return strings.Join(words, ","), nil
	case map[string]any:
		text, err := json.Marshal(value)
		return string(text), named(flag.field, err)
	default: // json.Number, bool
		got, err := flag.read(fmt.Sprint(value))
		return got, named(flag.field, err)
	}
}

// isList reports whether a variable holds one value of the flag on each line.
func (s setting) isList() bool { return s.kind == reflect.TypeFor[[]string]() }

// named adds the name of the variable or field to an error.
func named(source string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", source, err)
	}
	return nil
}

// read turns the text of a variable or field into what kong parses.
func (s setting) read(text string) (any, error) {
	switch {
	case s.kind.Kind() == reflect.Bool:
		if value, ok := truth(text); ok {
			return value, nil
		}
		return nil, fmt.Errorf("want true or false, got %q", text)
	case s.isList():
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

// truth reads one of the words that stand for true and false. ok is false for any other.
func truth(text string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "1", "true", "yes", "on":
		return true, true
	case "0", "false", "no", "off":
		return false, true
	}
	return false, false
}

// lookUp finds "oauth2.clientId" in the file; null counts as unset. It returns false if there is no
// such field.
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

// knownFields are the fields of the file that the flags of a grammar read.
func knownFields(app *kong.Application) []string {
	var known []string
	for _, command := range app.Leaves(false) {
		for _, group := range command.AllFlags(false) {
			for _, flag := range group {
				known = append(known, flag.Tag.Get("field"))
			}
		}
	}
	return known
}

// unknownFields warns of each field of the file that is not known.
func (s *sources) unknownFields(known []string) []string {
	if s.file == nil {
		return nil
	}
	var warnings []string
	for _, field := range fieldNames("", s.file) {
		// A field of a JSON object, such as one of oauth2.extraParams, belongs to the object's
		// flag.
		isKnown := func(k string) bool { return field == k || strings.HasPrefix(field, k+".") && k != "" }
		if !slices.ContainsFunc(known, isKnown) {
			warnings = append(warnings, fmt.Sprintf("settings file %s: field %q is not known and has no effect", s.path, field))
		}
	}
	return warnings
}

// fieldNames lists the dotted names of all values in object, sorted.
func fieldNames(prefix string, object map[string]any) []string {
	var names []string
	for key, value := range object {
		if inner, ok := value.(map[string]any); ok {
			names = append(names, fieldNames(prefix+key+".", inner)...)
		} else {
			names = append(names, prefix+key)
		}
	}
	slices.Sort(names)
	return names
}
