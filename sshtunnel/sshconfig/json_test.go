//go:build linux

package sshconfig

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// A Host passes to another process and back without a loss: those that the cases of testdata lead
// to, and one whose every field is set.
func TestHostAsJSON(t *testing.T) {
	var hosts []*Host
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, files := parseArchive(string(text))
		r := configResolver(t, files["home/.ssh/config"])
		for line := range strings.Lines(files["queries"]) {
			for word := range strings.FieldsSeq(line) {
				if strings.Contains(word, "=") {
					continue
				}
				// Many cases are about what is refused.
				if chain, err := r.Chain(t.Context(), word); err == nil {
					hosts = append(hosts, chain...)
				}
				break
			}
		}
	}
	if len(hosts) < 50 {
		t.Errorf("only %d hosts", len(hosts))
	}
	whole := &Host{settings: []Setting{{"port", "22", Origin{FromFile, "/f", 7}}}, tokens: map[byte]string{'h': "x", 'C': "y"}}
	setFields(reflect.ValueOf(whole).Elem())
	for _, h := range append(hosts, whole, &Host{}) {
		text, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		var got Host
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if !reflect.DeepEqual(&got, h) {
			t.Errorf("got  %+v\nwant %+v", &got, h)
		}
	}
}

// setFields gives each exported field of a struct a value that is not its zero value.
func setFields(v reflect.Value) {
	for field, value := range v.Fields() {
		if !field.IsExported() {
			continue
		}
		switch {
		case value.Kind() == reflect.String:
			value.SetString("text of " + field.Name)
		case value.Kind() == reflect.Bool:
			value.SetBool(true)
		case value.CanInt():
			value.SetInt(1_234_567_891)
		default:
			value.Set(reflect.ValueOf([]string{field.Name, "", "\x00é\u2028"}))
		}
	}
}
