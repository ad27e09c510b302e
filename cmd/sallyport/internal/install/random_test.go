package install

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// scribe writes random JSON documents, as a person with odd habits would.
type scribe struct {
	*rand.Rand
	newline string
	// depth is how deep the values may still be nested.
	depth int
}

// pick returns one of some texts.
func (s *scribe) pick(texts ...string) string { return texts[s.IntN(len(texts))] }

// space writes white space and comments.
func (s *scribe) space() string {
	return s.pick("", "", "", " ", "\t", s.newline, s.newline+"  ", s.newline+"\t\t", " /* } */ ", " // {"+s.newline, s.newline+"    // \"a\": 1,"+s.newline+"  ")
}

// value writes any value.
func (s *scribe) value() string {
	if s.depth--; s.depth < 0 {
		s.depth = 0
		return s.pick("1", `"x"`, "null")
	}
	defer func() { s.depth++ }()
	switch s.IntN(4) {
	case 0:
		return s.object(nil, "")
	case 1:
		return "[" + s.space() + s.pick("", "1", `"]", {}`) + s.space() + "]"
	}
	return s.pick("true", "-1.5e300", "null", `"\u00e9\"{"`, `"//"`, `"é"`)
}

// object writes an object with random members and, if key is given, one with that key.
func (s *scribe) object(key *string, value string) string {
	var members []string
	for i := range s.IntN(4) {
		members = append(members, s.space()+fmt.Sprintf(`"k%d"`, i)+s.space()+":"+s.space()+s.value()+s.space())
	}
	if key != nil {
		at := s.IntN(len(members) + 1)
		members = append(members[:at], append([]string{s.space() + quote(*key) + s.space() + ":" + s.space() + value + s.space()}, members[at:]...)...)
	}
	text := strings.Join(members, ",")
	if len(members) > 0 && s.IntN(4) == 0 {
		text += "," + s.space()
	}
	if len(members) == 0 {
		text = s.space()
	}
	return "{" + text + "}"
}

// TestRandomJSON shows for many documents that put adds the entry and keeps the rest, that remove
// gives the old bytes back, and that no comment is lost.
func TestRandomJSON(t *testing.T) {
	container := []string{"a", "b"}
	for seed := range uint64(20000) {
		s := &scribe{Rand: rand.New(rand.NewPCG(seed, 0)), newline: "\n", depth: 3}
		if s.IntN(3) == 0 {
			s.newline = "\r\n"
		}
		inner := s.object(nil, "")
		var old string
		switch s.IntN(3) {
		case 0:
			old = s.object(nil, "")
		case 1:
			old = s.object(&container[0], s.object(nil, ""))
		default:
			old = s.object(&container[0], s.object(&container[1], inner))
		}
		old = s.pick("", "\ufeff", "// top"+s.newline) + old + s.pick("", s.newline)
		change, err := jsonFormat{}.put([]byte(old), container, "internal", sample)
		if err != nil {
			t.Fatalf("seed %d: %v in\n%s", seed, err, old)
		}
		servers, err := jsonFormat{}.servers(change.New, container)
		if err != nil || !has(servers[len(servers)-1].value, sample) {
			t.Fatalf("seed %d: %v\n%s\nbecomes\n%s", seed, err, old, change.New)
		}
		if got, want := bytes.Count(change.New, []byte("//")), strings.Count(old, "//")+1; got != want { // that of the URL
			t.Fatalf("seed %d: %d comments, want %d:\n%s\nbecomes\n%s", seed, got, want, old, change.New)
		}
		back, err := jsonFormat{}.remove(change.New, container, "internal", change.Made)
		if err != nil || string(back) != old {
			t.Fatalf("seed %d: %v\n%q\nbecomes\n%q\nand then\n%q", seed, err, old, change.New, back)
		}
	}
}

// pieces are parts of documents that stand one below the other in any order.
var pieces = map[string]struct{ head, parts []string }{
	"toml": {
		head: []string{"", "a = 1\n", "# c\n", "\n\n", "a = \"\"\"\n[mcp_servers.internal]\n\"\"\" # c\n"},
		parts: []string{
			"[t]\n", "\n[u] # c\nx = [\n  1, # c\n  2\n]\n", "[mcp_servers.a]\ncommand = \"x\" # c\n", "# c\n\n[mcp_servers.\"b.c\"]\nargs = ['#']\n[mcp_servers.\"b.c\".env]\nK = \"v\"\n",
			"[[w]]\n", "\n\n", "[ mcp_servers . d ]\n\tcommand = \"y\"\n", "[x.y]\nd = 1979-05-27T07:32:00Z\n\n# c\n", "[mcp_servers_x]\ninternal = {}\n",
		},
	},
	"yaml": {
		head: []string{"", "# c\n", "---\n", "name: n # c\n"},
		parts: []string{
			"a: b\n", "models:\n  - name: x # c\n", "\n# c\n", "t: |\n  mcpServers:\n  - x\n\n", "mcpServers:\n  - name: a # c\n    args: [\"#\"]\n  # c\n  - {name: b}\n",
			"l:\n- 1\n-\n  - 2\n", "\n", "q: \"a\n\n  b\" # c\n",
		},
	},
}

// TestRandomText shows for many documents of the other two formats what TestRandomJSON shows.
func TestRandomText(t *testing.T) {
	for syntax, p := range pieces {
		d := documents[syntax]
		for seed := range uint64(3000) {
			r := rand.New(rand.NewPCG(seed, 1))
			old := p.head[r.IntN(len(p.head))]
			for _, i := range r.Perm(len(p.parts))[:r.IntN(len(p.parts)+1)] {
				old += p.parts[i]
			}
			if r.IntN(3) == 0 {
				old = strings.ReplaceAll(old, "\n", "\r\n")
			}
			if r.IntN(3) == 0 {
				old = strings.TrimRight(old, "\r\n")
			}
			change, err := d.format.put([]byte(old), d.container, "internal", sample)
			if err != nil {
				t.Fatalf("%s, seed %d: %v in\n%s", syntax, seed, err, old)
			}
			before, err := d.format.servers([]byte(old), d.container)
			after, err2 := d.format.servers(change.New, d.container)
			if err != nil || err2 != nil || !onlyDiffer(before, after, "internal") || len(after) != len(before)+1 {
				t.Fatalf("%s, seed %d: %v, %v\n%s\nbecomes\n%s", syntax, seed, err, err2, old, change.New)
			}
			if got, want := bytes.Count(change.New, []byte("# c")), strings.Count(old, "# c"); got != want {
				t.Fatalf("%s, seed %d: %d comments, want %d:\n%s\nbecomes\n%s", syntax, seed, got, want, old, change.New)
			}
			back, err := d.format.remove(change.New, d.container, "internal", change.Made)
			if err != nil || string(back) != old {
				t.Fatalf("%s, seed %d: %v\n%q\nbecomes\n%q\nand then\n%q", syntax, seed, err, old, change.New, back)
			}
		}
	}
}
