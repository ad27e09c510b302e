package cli

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// Whatever is read without kong is read as kong does. isPlain says what must be.
func TestPlainEqualsKong(t *testing.T) {
	variables := map[string]string{"OAUTH2_GRANT": "none", "SALLYPORT_HEADER": "B: c"}
	for line, isPlain := range map[string]bool{
		"":                      true,
		"https://u.example/mcp": true,
		"--via bastion -o Port=23 -J a,b --header A:b --no-interactive https://u.example/mcp": true,
		"--header=A:b --header=C:d -o A=b -o C=d":                                             true,
		"--scope login --control-master --timeout 5 ssh://u.example":                          true,
		"--control-master=off --callback-port 1,2 --pin-tools":                                true,
		"--header Authorization:secret":                                                       false,
		"--client-secret secret":                                                              false,
		"--no-such-flag":                                                                      false,
		"--via":                                                                               false,
		"--via=":                                                                              false,
		"--via -F https://u.example/mcp":                                                      false,
		"--via a --via b":                                                                     false,
		"-Fnone https://u.example/mcp":                                                        false,
		"-- https://u.example/mcp":                                                            false,
		"-":                                                                                   false,
		"logn":                                                                                false,
		"localhost":                                                                           false,
		"https://u.example/mcp again":                                                         false,
		"https://u.example/mcp https://u.example/":                                            false,
		"--log-level loud":                                                                    false,
		"--timeout x https://u.example/mcp":                                                   false,
		"--pin-tools=false":                                                                   false,
		"--no-pin-tools":                                                                      false,
		"--via bastion login":                                                                 false,
		"--config none.json":                                                                  false,
		"proxy https://u.example/mcp":                                                         false,
		"login --scope a https://u.example/":                                                  false,
		"version":                                                                             false,
		"--version":                                                                           false,
		"--help":                                                                              false,
		"https://u.example/mcp -h":                                                            false,
		"--scope \xff":                                                                        false,
	} {
		if got := sameAsKong(t, variables, strings.Fields(line)...); got != isPlain {
			t.Errorf("%q: plain: %t, want %t", line, got, isPlain)
		}
	}
}

// sameAsKong reports whether a command line and variables are read without kong. If they are, kong
// must read the same.
func sameAsKong(t *testing.T, variables map[string]string, args ...string) (isPlain bool) {
	t.Helper()
	env := environment.Fixed(variables, "")
	plain := plainProxy(args, env)
	if plain == nil {
		return false
	}
	whole, err := parser{args: args, env: env, stdout: io.Discard, stderr: io.Discard}.parse()
	if err != nil || !reflect.DeepEqual(plain, whole) {
		t.Errorf("%q, %q: got  %+v\nwant %+v, %v", args, variables, plain.Command, whole, err)
	}
	return true
}

// Each flag of a proxy is read as kong reads it, from the command line, a variable and the file.
func TestPlainFlagsEqualKongs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.json")
	for _, f := range plainFlags(nil, reflect.ValueOf(new(ProxyCommand)).Elem()) {
		values := []string{"5", "x: y=z, \na", "-1", "\xff"}
		switch f.target.Interface().(type) {
		case bool:
			values = []string{"true", "off", "2"}
		case StringMap:
			values = []string{`{"a":"b"}`, "{}", "null", "a"}
		case Ports:
			values = []string{"1", "1,2", "65536"}
		default:
			values = append(values, strings.Split(f.tag.Get("enum"), ",")[0])
		}
		var plain int
		for i, value := range values {
			for _, args := range [][]string{{"--" + f.name}, {"--" + f.name, value}, {"--" + f.name + "=" + value}, {"--no-" + f.name}, {"-" + f.tag.Get("short"), value}} {
				if sameAsKong(t, nil, args...) {
					plain++
				}
			}
			for _, name := range f.variables() {
				if sameAsKong(t, map[string]string{name: value}) {
					plain++
				}
			}
			if f.field == "" || i > 0 {
				continue
			}
			text, _ := json.Marshal(value)
			for _, object := range []string{string(text), value, "[" + string(text) + "]", "[]"} {
				for _, part := range slices.Backward(strings.Split(f.field, ".")) {
					object = `{"` + part + `":` + object + "}"
				}
				if err := os.WriteFile(file, []byte(object), 0o600); err != nil {
					t.Fatal(err)
				}
				sameAsKong(t, nil, "--config", file)
			}
		}
		if plain == 0 {
			t.Errorf("no value of --%s is read without kong", f.name)
		}
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
