package cli

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/cmd/sallyport/internal/environment"

	"github.com/alecthomas/kong"
)

// plainProxy reads the command line of a proxy, its variables and its file as kong would, by the
// same grammar. It returns nil for everything that is not plain: another command, help, a mistake,
// a secret on the command line, and ways of writing that are rare. Kong then reads all of it anew,
// and has the words for a mistake.
//
// Kong allocates 700 KB and takes 2.7 ms to lay out the flags of a proxy. Here it is 10 KB and
// 0.3 ms (BenchmarkParse). The proportional set size of one of 30 proxies is smaller by 0.6 MiB, of
// 3.9 MiB (BenchmarkShared).
func plainProxy(args []string, env environment.Environment) *Invocation {
	c := new(ProxyCommand)
	flags := plainFlags(make([]plainFlag, 0, 96), reflect.ValueOf(c).Elem())
	url, ok := take(flags, args)
	if !ok {
		return nil
	}
	s := &sources{getenv: env.Getenv}
	if config, _ := findPlain(flags, "--config"); s.load(strings.Join(config.given, "")) != nil {
		return nil
	}
	known := make([]string, 0, len(flags))
	for _, f := range flags {
		if !f.settle(s) {
			return nil
		}
		known = append(known, f.field)
	}
	c.URL = url
	return &Invocation{Command: c, Common: c.Common, Warnings: s.unknownFields(known)}
}

// plainFlag is a flag and what the command line says of it.
type plainFlag struct {
	setting
	tag    reflect.StructTag
	target reflect.Value
	// given are its values on the command line.
	given []string
}

// plainFlags appends the flags of a struct, and of those that are embedded in it.
func plainFlags(flags []plainFlag, v reflect.Value) []plainFlag {
	for i := range v.NumField() {
		field, tag := v.Type().Field(i), v.Type().Field(i).Tag
		_, isArgument := tag.Lookup("arg")
		switch {
		case field.Anonymous:
			flags = plainFlags(flags, v.Field(i))
		case !isArgument:
			_, hidden := tag.Lookup("hidden")
			name, ok := tag.Lookup("name")
			if !ok {
				name = hyphened(field.Name)
			}
			flags = append(flags, plainFlag{
				setting: setting{name, tag.Get("from"), tag.Get("field"), hidden, field.Type}, tag: tag, target: v.Field(i),
			})
		}
	}
	return flags
}

// hyphened is the name that kong gives the flag of a field: client-id for ClientID.
func hyphened(field string) string {
	var b strings.Builder
	for i, r := range field {
		before, after := i > 0 && unicode.IsLower(rune(field[i-1])), i+1 < len(field) && unicode.IsLower(rune(field[i+1]))
		if i > 0 && unicode.IsUpper(r) && (before || after) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// take notes in flags what the command line says. It returns the URL, which may be empty, and false
// for a command line that is not plain.
func take(flags []plainFlag, args []string) (url string, ok bool) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if !strings.HasPrefix(word, "-") {
			if url != "" || !strings.Contains(word, "://") || !utf8.ValidString(word) {
				return "", false
			}
			url = word
			continue
		}
		word, value, bound := strings.Cut(word, "=")
		f, implied := findPlain(flags, word)
		switch {
		case f == nil, bound && (value == "" || !strings.HasPrefix(word, "--") || f.kind.Kind() == reflect.Bool):
			return "", false
		case !bound && implied != "":
			value = implied
		case !bound:
			if len(args) == 0 || args[0] == "" || args[0][0] == '-' {
				return "", false
			}
			value, args = args[0], args[1:]
		}
		if len(f.given) > 0 && !f.isList() || !utf8.ValidString(value) {
			return "", false
		}
		f.given = append(f.given, value)
	}
	return url, true
}

// findPlain returns the flag that a word of the command line names, or nil. A flag that needs no
// value has one implied.
func findPlain(flags []plainFlag, word string) (f *plainFlag, implied string) {
	for i := range flags {
		f := &flags[i]
		long, isLong := strings.CutPrefix(word, "--")
		switch {
		case isLong && long == f.name, !isLong && f.tag.Get("short") == word[1:] && len(word) == 2:
			switch f.target.Interface().(type) {
			case bool:
				return f, "true"
			case ControlMaster:
				return f, string(ControlMasterOn)
			}
			return f, ""
		case isLong && f.isNegatable() && long == "no-"+f.name:
			return f, "false"
		}
	}
	return nil, ""
}

// isNegatable reports whether the flag can have no- in front.
func (f *plainFlag) isNegatable() bool {
	_, ok := f.tag.Lookup("negatable")
	return ok
}

// settle gives the flag its value: that of the command line, of the sources, or its default. It
// returns false if kong would find something to say.
func (f *plainFlag) settle(s *sources) bool {
	ok := true
	if len(f.given) > 0 {
		for _, text := range f.given {
			ok = ok && set(f.target, text)
		}
		ok = ok && secretRemedy(f.setting, f.target.Interface()) == ""
	} else if value, err := s.find(f.setting); err != nil {
		return false
	} else if value != nil {
		ok = f.setFound(value)
	} else if text, has := f.tag.Lookup("default"); has {
		ok = set(f.target, text)
	}
	if enum := f.tag.Get("enum"); ok && enum != "" {
		ok = slices.Contains(strings.Split(enum, ","), f.target.String())
	}
	return ok
}

// setFound sets what the sources have found.
func (f *plainFlag) setFound(value any) bool {
	switch value := value.(type) {
	case bool:
		f.target.SetBool(value)
		return true
	case string:
		return utf8.ValidString(value) && set(f.target, value)
	case []any:
		for _, element := range value {
			text, ok := element.(string)
			if !ok || !utf8.ValidString(text) {
				return false
			}
			set(f.target, text)
		}
		return len(value) > 0
	}
	return false
}

// set sets the value that a text stands for. It adds to a list. It returns false for a text that
// stands for no value.
func set(target reflect.Value, text string) bool {
	switch target := target.Addr().Interface().(type) {
	case *string:
		*target = text
	case *bool:
		on, err := strconv.ParseBool(text)
		*target = on
		return err == nil
	case *[]string:
		*target = append(*target, text)
	case kong.MapperValue:
		token := kong.Token{Type: kong.FlagValueToken, Value: text}
		return target.Decode(&kong.DecodeContext{Scan: kong.ScanFromTokens(token)}) == nil
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text)) == nil
	default:
		return false
	}
	return true
}
