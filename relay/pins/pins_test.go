package pins

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// What two texts of a tool have in common.
func TestForm(t *testing.T) {
	for _, tt := range []struct {
		name, a, b string
		same       bool
	}{
		{"white space and order", `{"name":"x","a":{"b":[1, {"c":2,"d":3}]}}`, `{ "a" : {"b":[1,{"d":3,"c":2}]},"name":"x"}`, true},
		{"escapes", `{"name":"x","a":"\u0061\/é"}`, `{"name":"\u0078","a":"a/\u00e9"}`, true},
		{"escapes in a key", `{"name":"x","a":1}`, `{"name":"x","\u0061":1}`, true},
		{"not read", `{"name":"x"}`, `{"name":"x","_meta":{"a":1},"icons":[],"execution":{}}`, true},
		{"not read, but further below", `{"name":"x","a":{}}`, `{"name":"x","a":{"_meta":1}}`, false},
		{"upper case", `{"name":"x"}`, `{"name":"x","Description":"y"}`, false},
		{"the order of an array", `{"name":"x","a":[1,2]}`, `{"name":"x","a":[2,1]}`, false},
		{"a repeated key", `{"name":"x","a":1}`, `{"name":"x","a":1,"a":1}`, false},
		{"the order of a repeated key", `{"name":"x","a":1,"a":2}`, `{"name":"x","a":2,"a":1}`, false},
		{"a kind", `{"name":"x","a":1}`, `{"name":"x","a":"1"}`, false},
		{"a number beyond 64 bits", `{"name":"x","a":12345678901234567890}`, `{"name":"x","a":12345678901234567891}`, false},
		{"an invisible character", `{"name":"x","a":"b"}`, `{"name":"x","a":"b\udb40\udc41"}`, false},
		{"halves of characters", `{"name":"x","a":"\ud800"}`, `{"name":"x","a":"\udbff"}`, false},
		{"null and nothing", `{"name":"x","a":null}`, `{"name":"x"}`, false},
	} {
		a, b := Of([]byte(tt.a)), Of([]byte(tt.b))
		if a.Name != "x" || b.Name != "x" || (a.hash == b.hash) != tt.same {
			t.Errorf("%s: %s and %s", tt.name, a.Form, b.Form)
		}
	}
	for _, raw := range []string{`5`, `"name"`, `[]`, `{}`, `{"name":7}`, `{"name":""}`, `{"name":"a","name":"a"}`,
		`{"name":"` + strings.Repeat("x", maxName) + `"}`, `{"name":"x","a":"` + strings.Repeat("x", maxTool) + `"}`,
		`{"name":"x","a":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + `}`} {
		if tool := Of([]byte(raw)); tool.Name != "" {
			t.Errorf("%.60s can be remembered", raw)
		}
	}
}

// A record is the same after it was stored, and stays within its bounds.
func TestRecord(t *testing.T) {
	r := NewRecord(time.Unix(0, 0))
	words := strings.Repeat("<x>", maxForm/4)
	added := 0
	for i := range 30000 {
		tool := fmt.Sprintf(`{"name":"tool%d"}`, i)
		if i < 100 {
			tool = fmt.Sprintf(`{"name":"tool%d","description":%q}`, i, words)
		}
		if r.Add(Of([]byte(tool))) {
			added++
		}
	}
	if added == 30000 || added != r.Len() {
		t.Errorf("%d tools were added, and %d are there", added, r.Len())
	}
	b := r.Bytes()
	if limit := 3 * (maxForms + maxNames); len(b) > limit {
		t.Errorf("%d bytes, more than %d", len(b), limit)
	}
	again, err := Read(b)
	if err != nil {
		t.Fatal(err)
	}
	for tool, want := range map[string]Standing{`{"name":"tool0"}`: Changed, `{"name":"tool200"}`: Accepted, `{"name":"tool29999"}`: New, `{}`: Unfit,
		fmt.Sprintf(`{"name":"tool0","description":%q}`, words): Accepted} {
		if got := again.Standing(Of([]byte(tool))); got != want {
			t.Errorf("%.40s: got %v, want %v", tool, got, want)
		}
	}
	again.DropForms()
	if got := again.Standing(Of([]byte(`{"name":"tool200"}`))); got != Accepted {
		t.Errorf("without forms: got %v", got)
	}
}

func TestChanges(t *testing.T) {
	r := NewRecord(time.Unix(0, 0))
	for _, tool := range List([]byte(`[{"name":"same"},{"name":"gone"},{"name":"other","a":1},{"name":"two","a":1},{"name":"two","a":2}]`)) {
		r.Add(tool)
	}
	var got []string
	for _, c := range r.Changes(List([]byte(`[{"name":"same"},{"name":"new"},{"name":"other","a":2},{"name":"two","a":1},{"name":"two","a":3},5]`))) {
		got = append(got, fmt.Sprintf("%s %s: %s-> %s", c.Kind, c.Name, c.Before, c.Now))
	}
	want := []string{
		"unfit : -> \n",
		`removed gone: {"name":"gone"}` + "\n-> ",
		`added new: -> {"name":"new"}` + "\n",
		`changed other: {"a":1,"name":"other"}` + "\n-> " + `{"a":2,"name":"other"}` + "\n",
		`changed two: {"a":1,"name":"two"}` + "\n" + `{"a":2,"name":"two"}` + "\n-> " + `{"a":1,"name":"two"}` + "\n" + `{"a":3,"name":"two"}` + "\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}
