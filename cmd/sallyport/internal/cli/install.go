package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// InstallCommand is `sallyport install`. It accepts the flags of the proxy, which become the
// arguments of the entry.
type InstallCommand struct {
	Client      string `placeholder:"CLIENT" help:"MCP host whose configuration gets the entry; --list names those that are here." from:"-"`
	List        bool   `help:"Show which MCP hosts are here, and where sallyport is in their configuration." from:"-"`
	JSON        bool   `name:"json" help:"Print JSON, with --list." from:"-"`
	Name        string `placeholder:"NAME" help:"Name of the server in the host; made of the URL's host if left out." from:"-"`
	ClientScope string `placeholder:"SCOPE" help:"For whom the entry counts, where the host tells this apart: user, local or project." from:"-"`
	Replace     bool   `help:"Replace the entry of mcp-remote, of mcp-oauth2-proxy or of the host itself that leads to the same URL; its env block is kept." from:"-"`
	DryRun      bool   `help:"Show the change and write nothing." from:"-"`
	NoLogin     bool   `name:"no-login" help:"Do not sign in afterwards." from:"-"`
	Remote
	Relay `group:"upstream"`
	Common
	// Given are the settings of the proxy that the person has made, without the URL.
	Given []Setting `kong:"-"`
}

// UninstallCommand is `sallyport uninstall`.
type UninstallCommand struct {
	Client      string `placeholder:"CLIENT" help:"MCP host whose configuration loses the entry." from:"-"`
	Name        string `placeholder:"NAME" help:"Name of the server in the host, if it has several." from:"-"`
	ClientScope string `placeholder:"SCOPE" help:"Look only at the entries of this scope: user, local or project." from:"-"`
	DryRun      bool   `help:"Show the change and write nothing." from:"-"`
	Store       `group:"files"`
	Common
	URL string `arg:"" optional:"" help:"Upstream of the entry, if the host has several."`
}

// Setting is one setting that a person has made by a flag or a variable of this program.
type Setting struct {
	// Flag is its name, without dashes.
	Flag string
	// Values are its values. A flag that is repeated has several, any other has one.
	Values []string
	// Arguments are the words of a command line that make the setting.
	Arguments []string
	// IsFile says that the value is the path of a file. Arguments has it in full.
	IsFile bool
}

// given lists the settings that a command line or a variable makes and that differ from the
// default. Those of the settings file are left out, because that is a setting itself.
func (p parser) given(kctx *kong.Context) []Setting {
	var settings []Setting
	for _, path := range kctx.Path {
		flag := path.Flag
		if flag == nil || flag.Tag.Get("from") == "-" || flag.Name == "help" || flag.Name == "upstream-url" {
			continue
		}
		isOwn := func(name string) bool { return p.env.Getenv(name) != "" && IsOwnVariable(name) }
		if path.Resolved && !slices.ContainsFunc(variables(flag), isOwn) {
			continue
		}
		if slices.ContainsFunc(settings, func(s Setting) bool { return s.Flag == flag.Name }) {
			continue // repeated
		}
		if s, ok := newSetting(flag); ok {
			settings = append(settings, s)
		}
	}
	return settings
}

// newSetting returns the setting of a flag. It returns false for a value that is the default.
func newSetting(flag *kong.Flag) (Setting, bool) {
	s := Setting{Flag: flag.Name}
	value := flag.Target
	isDefault := value.IsZero()
	if flag.HasDefault {
		fresh := reflect.New(value.Type()).Elem()
		isDefault = set(fresh, flag.Default) && reflect.DeepEqual(fresh.Interface(), value.Interface())
	}
	if isDefault {
		return s, false
	}
	if value.Kind() == reflect.Bool {
		s.Arguments = []string{"--" + flag.Name}
		if !value.Bool() {
			s.Arguments = []string{"--no-" + flag.Name}
		}
		return s, true
	}
	s.Values = settingTexts(value)
	s.IsFile = flag.PlaceHolder == "FILE" || flag.PlaceHolder == "DIR"
	for _, text := range s.Values {
		if s.IsFile && text != "none" {
			// The host starts the program in another folder.
			if full, err := filepath.Abs(text); err == nil {
				text = full
			}
		}
		if flag.IsBool() || strings.HasPrefix(text, "-") { // a value that only = binds to its flag
			s.Arguments = append(s.Arguments, "--"+flag.Name+"="+text)
		} else {
			s.Arguments = append(s.Arguments, "--"+flag.Name, text)
		}
	}
	return s, true
}

// settingTexts writes a value as a command line has it.
func settingTexts(value reflect.Value) []string {
	switch v := value.Interface().(type) {
	case []string:
		return v
	case Ports:
		texts := make([]string, len(v))
		for i, port := range v {
			texts[i] = strconv.Itoa(port)
		}
		return []string{strings.Join(texts, ",")}
	case StringMap:
		text, _ := json.Marshal(v) // a map of strings cannot fail
		return []string{string(text)}
	}
	if value.Type().ConvertibleTo(reflect.TypeFor[time.Duration]()) {
		return []string{value.Convert(reflect.TypeFor[time.Duration]()).Interface().(time.Duration).String()}
	}
	return []string{fmt.Sprint(value.Interface())}
}
