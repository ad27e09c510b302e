package relay

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// decodeValue is what a server does with the header's value.
func decodeValue(t *testing.T, v string) string {
	if b, ok := strings.CutPrefix(v, sentinelStart); ok {
		if b, ok = strings.CutSuffix(b, sentinelEnd); ok {
			raw, err := base64.StdEncoding.DecodeString(b)
			if err != nil {
				t.Fatalf("%q: %v", v, err)
			}
			return string(raw)
		}
	}
	return v
}

func TestEncodeValue(t *testing.T) {
	for in, want := range map[string]string{ // the first five are the specification's own
		"us-west1":              "us-west1",
		"Hello, 世界":             "=?base64?SGVsbG8sIOS4lueVjA==?=",
		" padded ":              "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2":          "=?base64?bGluZTEKbGluZTI=?=",
		"=?base64?literal?=":    "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
		"":                      "",
		"us west 1":             "us west 1",
		"a\tb":                  "=?base64?YQli?=",
		"=?base64?no end":       "=?base64?no end",
		"=?BASE64?other case?=": "=?BASE64?other case?=",
	} {
		if got := encodeValue(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzEncodeValue(f *testing.F) {
	for _, s := range []string{"plain", " x", "\x00", "=?base64?=", "=?base64??=", "世"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v := encodeValue(s)
		if got := decodeValue(t, v); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
		for i := range len(v) {
			if v[i] < ' ' || v[i] > '~' {
				t.Errorf("byte %#x in %q", v[i], v)
			}
		}
		if strings.TrimSpace(v) != v {
			t.Errorf("space around %q", v)
		}
	})
}

func TestHeaderText(t *testing.T) {
	for raw, want := range map[string]string{
		`"x\u0041"`: "xA", `""`: "", `true`: "true", `false`: "false", `42`: "42", `-7`: "-7",
		`42.0`: "42", `4.2e1`: "42", `9007199254740991`: "9007199254740991", `12345678901234567890`: "12345678901234567890",
		`null`: "-", `3.5`: "-", `1e400`: "-", `1e16`: "-", `{}`: "-", `[1]`: "-", ``: "-",
	} {
		got, ok := headerText([]byte(raw))
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", raw, got, want)
		}
	}
}

func TestMirroredParams(t *testing.T) {
	const mark = `{"type":"string","x-mcp-header":"H"}`
	for _, tt := range []struct{ name, schema, want string }{
		{"none", `{"type":"object","properties":{"a":{"type":"string"}}}`, "[]"},
		{"no schema", `true`, "[]"},
		{"kinds", `{"properties":{"s":{"type":"string","x-mcp-header":"S"},"i":{"x-mcp-header":"I","type":"integer"},"b":{"type":"boolean","x-mcp-header":"B"}}}`,
			"[{S [s]} {I [i]} {B [b]}]"},
		{"nested", `{"properties":{"a":{"type":"object","properties":{"b":{"properties":{"c":` + mark + `}}}}}}`, "[{H [a b c]}]"},
		{"nullable", `{"properties":{"a":{"type":["null","string"],"x-mcp-header":"H"}}}`, "[{H [a]}]"},
		{"a parameter of that name", `{"properties":{"x-mcp-header":{"type":"string"}}}`, "[]"},
		{"data", `{"properties":{"a":{"type":"object","default":` + mark + `,"enum":[` + mark + `],"const":` + mark + `,"examples":[` + mark + `]}}}`, "[]"},
		{"empty", `{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, "not a header name"},
		{"space", `{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}`, "not a header name"},
		{"line break", `{"properties":{"a":{"type":"string","x-mcp-header":"a\nb"}}}`, "not a header name"},
		{"not ASCII", `{"properties":{"a":{"type":"string","x-mcp-header":"é"}}}`, "not a header name"},
		{"not a string", `{"properties":{"a":{"type":"string","x-mcp-header":7}}}`, "not a string"},
		{"number", `{"properties":{"a":{"type":"number","x-mcp-header":"H"}}}`, "neither"},
		{"two types", `{"properties":{"a":{"type":["integer","string"],"x-mcp-header":"H"}}}`, "neither"},
		{"no type", `{"properties":{"a":{"x-mcp-header":"H"}}}`, "neither"},
		{"twice", `{"properties":{"a":` + mark + `,"b":{"properties":{"c":{"type":"string","x-mcp-header":"h"}}}}}`, "used twice"},
		{"root", `{"type":"string","x-mcp-header":"H"}`, "properties alone"},
		{"items", `{"properties":{"a":{"items":` + mark + `}}}`, "properties alone"},
		{"prefixItems", `{"properties":{"a":{"prefixItems":[` + mark + `]}}}`, "properties alone"},
		{"anyOf", `{"anyOf":[{"properties":{"a":` + mark + `}}]}`, "properties alone"},
		{"if", `{"if":{"properties":{"a":` + mark + `}}}`, "properties alone"},
		{"definitions", `{"$defs":{"a":` + mark + `}}`, "properties alone"},
		{"pattern", `{"patternProperties":{"a":` + mark + `}}`, "properties alone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := mirroredParams([]byte(tt.schema))
			switch {
			case strings.HasPrefix(tt.want, "["):
				if fmt.Sprint(got) != tt.want || err != nil {
					t.Errorf("got %v, %v, want %s", got, err, tt.want)
				}
			case err == nil || !strings.Contains(err.Error(), tt.want):
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestToolHeadersFollowTheList(t *testing.T) {
	var tools toolHeaders
	tools.learn([]byte(`{"name":"t","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`))
	if got := tools.mirrored("t"); !slices.EqualFunc(got, []string{"A"}, func(p mirroredParam, h string) bool { return p.header == h }) {
		t.Errorf("got %v", got)
	}
	tools.learn([]byte(`{"name":"t","inputSchema":{}}`))
	if got := tools.mirrored("t"); len(got) > 0 {
		t.Errorf("still %v", got)
	}
}
