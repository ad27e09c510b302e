package cli

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"

	"github.com/alecthomas/kong"
)

// The first attempt, which names the other commands only, reads a proxy's command line as the whole
// grammar does, and leaves everything else to it.
func TestFirstAttemptEqualsTheWholeGrammar(t *testing.T) {
	env := environment.Fixed(map[string]string{"OAUTH2_GRANT": "none", "SALLYPORT_HEADER": "B: c"}, "")
	for line, isProxy := range map[string]bool{
		"":                      true,
		"https://u.example/mcp": true,
		"--via bastion -o Port=23 -J a,b --header A:b --no-interactive https://u.example/mcp": true,
		"--scope login":                      true,
		"--no-such-flag":                     true,
		"logn":                               true,
		"https://u.example/mcp again":        true,
		"--log-level loud":                   true,
		"--timeout x https://u.example/mcp":  true,
		"--via bastion login":                true,
		"--config none.json":                 true,
		"proxy https://u.example/mcp":        true,
		"login --scope a https://u.example/": false,
		"login --no-such-flag":               false,
		"ssh-config -F none bastion":         false,
		"version":                            false,
		"--help":                             false,
		"-h":                                 false,
		"https://u.example/mcp --help":       false,
		"--via bastion --help login":         true,
	} {
		t.Run(line, func(t *testing.T) {
			p := parser{args: strings.Fields(line), env: env, stdout: io.Discard, stderr: io.Discard}
			noHelp := kong.Help(func(kong.HelpOptions, *kong.Context) error { return errNotProxy })
			first, err := p.parse(new(defaultCommand), append(otherCommands(), noHelp)...)
			if got := !errors.Is(err, errNotProxy); got != isProxy {
				t.Fatalf("the first attempt takes it: %t, want %t (%v)", got, isProxy, err)
			}
			if !isProxy {
				return
			}
			whole, wholeErr := p.parse(new(grammar), kong.Help(printHelp))
			if fmt.Sprint(err) != fmt.Sprint(wholeErr) || !reflect.DeepEqual(first, whole) {
				t.Errorf("got  %+v, %v\nwant %+v, %v", first, err, whole, wholeErr)
			}
		})
	}
}

// The fields that a file may have are the same for all commands, because one file serves them all.
func TestProxyKnowsAllFields(t *testing.T) {
	k, err := newKong(new(grammar), &sources{})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, command := range k.Model.Leaves(false) {
		for _, flag := range command.Flags {
			if field := flag.Tag.Get("field"); command == k.Model.DefaultCmd {
				known[field] = true
			} else if !known[field] {
				t.Errorf("%s has the field %q, which the proxy does not know", command.Name, field)
			}
		}
	}
}
