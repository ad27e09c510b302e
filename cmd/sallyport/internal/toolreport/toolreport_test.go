package toolreport

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sallyport/relay/pins"
)

func TestReport(t *testing.T) {
	accepted := func(tools string) *pins.Record {
		r := pins.NewRecord(time.Date(2026, 7, 28, 12, 0, 0, 0, time.Local))
		for _, tool := range pins.List([]byte(tools)) {
			r.Add(tool)
		}
		return r
	}
	const head = "https://mcp.example: 1 tool, accepted 2026-07-28 12:00:00\n"
	for _, tt := range []struct{ name, before, now, want string }{
		{"nothing changed", `[{"name":"a","x":1}]`, `[{"x":1,"name":"a"}]`, head + "the upstream has just these\n"},
		{"a description", `[{"name":"a","description":"one\ntwo"}]`, `[{"name":"a","description":"one\nthree"}]`,
			head + "changed  a\n    --- accepted\n    +++ now\n    @@ -1,3 +1,3 @@\n     name: a\n     description: one\n    -  two\n    +  three\n"},
		{"a schema", `[{"name":"a","inputSchema":{"type":"object"}}]`, `[{"name":"a","inputSchema":{"type":"string"}}]`,
			head + "changed  a\n    --- accepted\n    +++ now\n    @@ -1,4 +1,4 @@\n     name: a\n     inputSchema: {\n    -    \"type\": \"object\"\n    +    \"type\": \"string\"\n       }\n"},
		{"added and removed", `[{"name":"b"}]`, `[{"name":"a"}]`,
			head + "added    a\n    --- accepted\n    +++ now\n    @@ -0,0 +1,1 @@\n    +name: a\nremoved  b\n"},
		{"what nobody sees", `[{"name":"a"}]`, `[{"name":"a\u202e\nremoved  b"}]`,
			head + "removed  a\nadded    a\\u{202e}\\u{a}removed  b\n    --- accepted\n    +++ now\n    @@ -0,0 +1,2 @@\n    +name: a\\u{202e}\n    +  removed  b\n"},
		{"no name", `[{"name":"a"}]`, `[{"name":"a"},{}]`, head + "unfit    (no name): it has no single name, or is too large, so it stays hidden\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			record := accepted(tt.before)
			report := New("https://mcp.example", "default", record)
			report.Compare(record, pins.List([]byte(tt.now)))
			var b strings.Builder
			if err := report.Write(&b); err != nil || b.String() != tt.want {
				t.Errorf("%v\n got %q\nwant %q", err, b.String(), tt.want)
			}
			if _, err := json.Marshal(report); err != nil {
				t.Error(err)
			}
		})
	}
}

// A long line is broken, and no part of it is left out.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("word ", 1000) + "END"
	var b strings.Builder
	report := New("u", "default", nil)
	report.Compare(nil, pins.List([]byte(`[{"name":"a","description":"`+long+`"}]`)))
	report.Write(&b)
	if !strings.Contains(b.String(), "END") {
		t.Error("the end is missing")
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > maxColumns+10 {
			t.Errorf("%d columns", len(line))
		}
	}
}
