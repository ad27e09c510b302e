package install

import (
	"bytes"
	"strings"
	"testing"
)

var sample = object{{"command", "/opt/sallyport"}, {"args", []string{"--via", "bastion", "https://mcp.internal/mcp"}}}

// documents are texts of each format that an entry comes into.
var documents = map[string]struct {
	format    format
	container []string
	texts     map[string]string
}{
	"json": {jsonFormat{}, []string{"mcpServers"}, map[string]string{
		"empty":               "",
		"blank":               " \n",
		"object":              "{}",
		"object and newline":  "{}\n",
		"object with newline": "{\n}\n",
		"empty container":     "{\n  \"mcpServers\": {}\n}\n",
		"open container":      "{\n  \"mcpServers\": {\n  }\n}\n",
		"null container":      "{\n  \"mcpServers\": null,\n  \"a\": 1\n}\n",
		"other keys":          "{\n  \"a\": 1,\n  \"b\": [1, 2]\n}\n",
		"another server":      "{\n  \"mcpServers\": {\n    \"x\": {\n      \"command\": \"y\"\n    }\n  },\n  \"z\": 1\n}",
		"tabs":                "{\n\t\"mcpServers\": {\n\t\t\"x\": {}\n\t}\n}\n",
		"four spaces":         "{\n    \"mcpServers\": {\n        \"x\": {}\n    }\n}\n",
		"crlf":                "{\r\n  \"mcpServers\": {\r\n    \"x\": {}\r\n  }\r\n}\r\n",
		"bom":                 "\ufeff{\r\n  \"a\": 1\r\n}\r\n",
		"minified":            `{"a":1,"mcpServers":{"x":{"command":"y"}},"z":[]}`,
		"minified, empty":     `{"a":1,"mcpServers":{}}`,
		"minified, none":      `{"a":1}`,
		"one line":            `{"a": 1, "mcpServers": {"x": {"command": "y"}}}` + "\n",
		"comments":            "// top\n{\n  // of a\n  \"a\": 1, // behind a\n  /* of the servers */\n  \"mcpServers\": {\n    // of x\n    \"x\": {} // behind x\n    // last\n  } // end\n}\n// bottom\n",
		"comment in empty":    "{\n  \"mcpServers\": {\n    // nothing yet\n  }\n}\n",
		"trailing commas":     "{\n  \"mcpServers\": {\n    \"x\": {}, // behind\n  },\n}\n",
		"trailing, one line":  `{"mcpServers": {"x": {},},}`,
		"braces in strings":   "{\n  \"mcpServers\": {\n    \"}\": {\"command\": \"}//{\"}\n  },\n  \"a\\\"b\": \"/*\"\n}\n",
		"comment, no newline": "{ // head\n  \"a\": 1\n}\n// bottom",
		"duplicates besides":  "{\"a\": 1, \"a\": 2}\n",
	}},
	"deep json": {jsonFormat{}, []string{"projects", "/home/ada/p.q", "mcpServers"}, map[string]string{
		"none":        "{\n  \"numStartups\": 3\n}",
		"projects":    "{\n  \"projects\": {}\n}",
		"the project": "{\n  \"projects\": {\n    \"/home/ada/p.q\": {\n      \"allowedTools\": [],\n      \"mcpServers\": {}\n    },\n    \"/x\": {}\n  },\n  \"n\": 1e400\n}",
	}},
	"toml": {tomlFormat{}, []string{"mcp_servers"}, map[string]string{
		"empty":          "",
		"blank":          "\n",
		"keys":           "# top\nmodel = \"x\" # behind\n",
		"no newline":     "model = \"x\"",
		"blank lines":    "model = \"x\"\n\n\n",
		"crlf":           "model = \"x\"\r\n\r\n[tui]\r\na = 1\r\n",
		"another server": "[mcp_servers.x] # of x\ncommand = \"y\"\nargs = [\n  \"a#b\", # one\n  'c',\n]\n\n[mcp_servers.x.env]\nA = \"1\"\n\n# of z\n[z]\na = '''\n[mcp_servers.internal]\n'''\n",
		"inline server":  "[mcp_servers]\nx = { command = \"y\" }\n",
		"dotted":         "mcp_servers.x.command = \"y\"\n",
		"arrays":         "[[profiles]]\na = 1\n[[profiles]]\na = 2\n",
	}},
	"yaml": {yamlFormat{head: "name: Local\nversion: 1.0.0\nschema: v1\n"}, []string{"mcpServers"}, map[string]string{
		"empty":           "",
		"blank":           "\n",
		"none":            "name: a # behind\nmodels: []\n",
		"no newline":      "name: a",
		"empty list":      "name: a\nmcpServers: [] # none\nmodels:\n  - x\n",
		"nothing":         "mcpServers:\nname: a\n",
		"another":         "name: a\nmcpServers:\n  # of x\n  - name: x\n    command: y\n    args:\n      - b # c\n\n# of models\nmodels: []\n",
		"no indent":       "mcpServers:\n- name: x\n  command: y\n",
		"wide dash":       "mcpServers:\n   -   name: x\n       command: y\n",
		"last, no end":    "mcpServers:\n  - name: x\n    command: y",
		"deep indent":     "mcpServers:\n      - name: x\n        env:\n          A: |\n            b\n\n            c\n",
		"crlf":            "name: a\r\nmcpServers:\r\n  - name: x\r\n    command: y\r\n",
		"comment at end":  "mcpServers:\n  - name: x\n    command: y\n# end\n",
		"document header": "---\n# c\nname: a\n",
	}},
}

// TestPutAndRemove shows for each document that it holds the entry afterwards, that another put
// changes nothing, that no comment is lost, and that remove gives back the old bytes.
func TestPutAndRemove(t *testing.T) {
	for syntax, d := range documents {
		for name, old := range d.texts {
			t.Run(syntax+"/"+name, func(t *testing.T) {
				change, err := d.format.put([]byte(old), d.container, "internal", sample)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("\n%s", change.New)
				checkHolds(t, d.format, change.New, d.container)
				again, err := d.format.put(change.New, d.container, "internal", sample)
				if err != nil || !bytes.Equal(again.New, change.New) {
					t.Errorf("the second put gives\n%s\n%v", again.New, err)
				}
				for _, comment := range []string{"top", "of a", "behind", "last", "end", "bottom", "nothing yet", "of x", "one", "of z", "none"} {
					if strings.Contains(old, comment) && !strings.Contains(string(change.New), comment) {
						t.Errorf("the comment %q is lost", comment)
					}
				}
				if lf := bytes.ReplaceAll(change.New, []byte("\r\n"), nil); strings.Contains(old, "\r\n") && bytes.Contains(lf, []byte("\n")) {
					t.Errorf("line breaks are mixed: %q", change.New)
				}
				got, err := d.format.remove(change.New, d.container, "internal", change.Made)
				if err != nil || string(got) != old {
					t.Errorf("remove gives\n%q, want\n%q\n%v", got, old, err)
				}
			})
		}
	}
}

// checkHolds fails unless the document has the entry, exactly once.
func checkHolds(t *testing.T, f format, text []byte, container []string) {
	t.Helper()
	servers, err := f.servers(text, container)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	n := 0
	for _, s := range servers {
		if s.Name == "internal" && has(s.value, sample) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the entry is there %d times:\n%s", n, text)
	}
}

// TestUpdate shows what another put makes of an entry that is there: what it does not set stays,
// with the comments.
func TestUpdate(t *testing.T) {
	for name, row := range map[string]struct{ old, want string }{
		"json": {
			"{\n  \"mcpServers\": {\n    \"internal\": {\n      // mine\n      \"command\": \"/old/sallyport\", // here\n      \"args\": [\n        \"x\"\n      ],\n      \"timeout\": 9\n    }, \"z\": {}\n  }\n}\n",
			"{\n  \"mcpServers\": {\n    \"internal\": {\n      // mine\n      \"command\": \"/opt/sallyport\", // here\n      \"args\": [\"--via\", \"bastion\", \"https://mcp.internal/mcp\"],\n      \"timeout\": 9\n    }, \"z\": {}\n  }\n}\n",
		},
		"toml": {
			"[mcp_servers.internal] # ours\nargs = [ # list\n  \"x#\", # y\n]\n# of the timeout\ntimeout = 9 # s\n\n[mcp_servers.internal.env]\ncommand = \"A\"\n[z]\n",
			"[mcp_servers.internal] # ours\nargs = [\"--via\", \"bastion\", \"https://mcp.internal/mcp\"]\n# of the timeout\ntimeout = 9 # s\ncommand = \"/opt/sallyport\"\n\n[mcp_servers.internal.env]\ncommand = \"A\"\n[z]\n",
		},
		"yaml": {
			"mcpServers:\n- command: /old/sallyport # here\n  # of the name\n  name: internal\n  timeout: 9\n  args: [x]\n# of z\n- name: z\nmodels: []\n",
			"mcpServers:\n- command: \"/opt/sallyport\" # here\n  # of the name\n  name: internal\n  timeout: 9\n  args:\n    - \"--via\"\n    - \"bastion\"\n    - \"https://mcp.internal/mcp\"\n# of z\n- name: z\nmodels: []\n",
		},
	} {
		d := documents[name]
		change, err := d.format.put([]byte(row.old), d.container, "internal", sample)
		if err != nil || string(change.New) != row.want {
			t.Errorf("%s:\n%s\nwant\n%s\n%v", name, change.New, row.want, err)
		}
	}
}

// TestRemoveAmongOthers shows that the entries and comments around stay.
func TestRemoveAmongOthers(t *testing.T) {
	for name, row := range map[string]struct{ syntax, old, want string }{
		"first":     {"json", `{"mcpServers": {"internal": {}, "z": {}}}`, `{"mcpServers": { "z": {}}}`},
		"middle":    {"json", "{\"mcpServers\": {\n  // a\n  \"a\": {}, // behind a\n  // ours\n  \"internal\": {}, // behind ours\n  \"z\": {}\n}}", "{\"mcpServers\": {\n  // a\n  \"a\": {}, // behind a\n  // ours\n // behind ours\n  \"z\": {}\n}}"},
		"one line":  {"json", "{\"mcpServers\": {\"a\": {}, // behind a\n\"internal\": {}, \"z\": {}}}", "{\"mcpServers\": {\"a\": {}, // behind a\n \"z\": {}}}"},
		"tables":    {"toml", "[mcp_servers.internal]\na = 1\n# in it\n\n[mcp_servers.internal.env]\nb = 2\n\n# of z\n[z]\n[mcp_servers.internal.tools.x]\nc = 3\n", "# in it\n\n# of z\n[z]\n"},
		"inline":    {"toml", "[mcp_servers]\na = { b = 1 }\ninternal = { c = 1 }\n", "[mcp_servers]\na = { b = 1 }\n"},
		"yaml item": {"yaml", "mcpServers:\n  - name: internal\n    a: |\n      b\n\n  # of z\n  - name: z\n", "mcpServers:\n\n  # of z\n  - name: z\n"},
		"yaml only": {"yaml", "a: b\nmcpServers:\n  - name: internal\n# end\n", "a: b\nmcpServers: []\n# end\n"},
	} {
		d := documents[row.syntax]
		got, err := d.format.remove([]byte(row.old), d.container, "internal", nil)
		if err != nil || string(got) != row.want {
			t.Errorf("%s:\n%q, want\n%q\n%v", name, got, row.want, err)
		}
	}
}
