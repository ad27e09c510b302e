package relay

import (
	"strings"
	"testing"
	"testing/synctest"

	. "sallyport/relay/relaytest"
)

func TestToolFilterNames(t *testing.T) {
	for _, tt := range []struct {
		pattern, hidden, shown string // names, separated by spaces
	}{
		{"echo", "echo Echo", "echo2 ech a-echo"},
		{"Delete*", "delete deleteTask DELETE_ALL", "undelete Delet"},
		{"*account", "account getAccount", "accounts"},
		{"*a*b*", "ab xaxbx aab", "ba a b"},
		{"a*a", "aa aba", "a"},
		{"a*b*b", "abb aXbYb", "ab"},
		{"**", "x", ""},
		{"a.b?[c]", "a.b?[c]", "axbyc"},
	} {
		f := newToolFilter([]string{"never", tt.pattern}, nil)
		for _, name := range strings.Fields(tt.hidden) {
			if !f.hides(name) {
				t.Errorf("%s shows %s", tt.pattern, name)
			}
		}
		for _, name := range strings.Fields(tt.shown) {
			if f.hides(name) {
				t.Errorf("%s hides %s", tt.pattern, name)
			}
		}
	}
}

func TestToolFilterList(t *testing.T) {
	f := newToolFilter([]string{"rm*"}, nil)
	for _, tt := range []struct{ name, in, want string }{
		{"none hidden", `{"id":1, "result":{"tools":[ {"name":"a"} , {"name":"b"}]}}`, `{"id":1, "result":{"tools":[ {"name":"a"} , {"name":"b"}]}}`},
		{"one of three", `{"result":{"x":1e400,"tools":[{"name":"a","n": 1.0} , {"name":"rm"},{"name":"b"}],"nextCursor":"rm"},"id":1}`,
			`{"result":{"x":1e400,"tools":[{"name":"a","n": 1.0},{"name":"b"}],"nextCursor":"rm"},"id":1}`},
		{"all", `{"result":{"tools":[{"name":"rm"},{"name":"rm2"}]}}`, `{"result":{"tools":[]}}`},
		{"escaped name", `{"result":{"tools":[{"name":"\u0072m"}]}}`, `{"result":{"tools":[]}}`},
		{"repeated keys", `{"result":{"tools":[{"name":"rm"}],"tools":[{"name":"a","name":"rm"},{"name":"rm","name":"a"}]},"result":{"tools":[{"name":"rm"}]}}`,
			`{"result":{"tools":[],"tools":[]},"result":{"tools":[]}}`},
		{"another shape", `{"result":{"tools":{"name":"rm"}},"error":{"tools":[{"name":"rm"}]}}`, `{"result":{"tools":{"name":"rm"}},"error":{"tools":[{"name":"rm"}]}}`},
		{"no objects", `{"result":{"tools":["rm",{"name":5},7]}}`, `{"result":{"tools":["rm",{"name":5},7]}}`},
		{"no result", `{"result":5}`, `{"result":5}`},
		{"nested", `{"result":{"tools":[{"name":"a","inputSchema":{"tools":[{"name":"rm"}]}}]}}`, `{"result":{"tools":[{"name":"a","inputSchema":{"tools":[{"name":"rm"}]}}]}}`},
	} {
		if got := string(f.list([]byte(tt.in))); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

// A hidden tool is neither shown nor called; what is not an answer to tools/list is left alone.
func TestIgnoreTools(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	const all = `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"rm"},{"name":"ls"}]}}`
	const prompts = `{"jsonrpc":"2.0","id":2,"method":"prompts/list"}`
	const promptsAnswer = `{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"rm"}]}}`
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{IgnoreTools: []string{"R*"}}, Exchange{Call: "tools/list", Reply: all}, Exchange{Call: "tools/list", Reply: "[" + all + "]"},
			Exchange{Call: "prompts/list", Reply: promptsAnswer}, Exchange{Call: "tools/call", Body: callLine, Reply: callAnswer}, Goodbye())
		h.send(list)
		h.want(strings.Replace(all, `{"name":"rm"},`, "", 1))
		h.send("[" + list + "]")
		h.want("[" + strings.Replace(all, `{"name":"rm"},`, "", 1) + "]")
		h.send(prompts)
		h.want(promptsAnswer)
		h.send(`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"\u0072m"}}`)
		if a := decode(t, h.recv()); a.Error.Code != -32602 || string(a.ID) != "3" || a.Error.Data.Kind != "ignored_tool" {
			t.Errorf("got %+v", a)
		}
		h.send(callLine)
		h.want(callAnswer)
		h.close()
	})
}
