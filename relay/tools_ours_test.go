package relay

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	. "sallyport/relay/relaytest"
)

func TestLooksLikeOurs(t *testing.T) {
	for _, name := range []string{"sallyport_sign_in", "sallyport_", "sallyport_x", "Sallyport_Sign_In", "SALLYPORT_SIGN_IN", "sallyport-sign-in",
		"sallyport.sign.in", "sallyport sign in", " sallyport_sign_in", "sallyport__sign_in", "_sallyport_x", "sally\u200bport_sign_in", "\ufeffsallyport_x",
		"sallyport\u2010sign\u2010in", "ｓａｌｌｙｐｏｒｔ＿x", "ѕаllуроrt_sign_in", "saIIyport_x", "sa11yp0rt_x", "𝐬𝐚𝐥𝐥𝐲𝐩𝐨𝐫𝐭_x", "sallyport\t_x", "s\u0301allyport_x",
		"\u202esallyport_x", strings.Repeat(" ", 100) + "sallyport_x"} {
		if !looksLikeOurs(name) {
			t.Errorf("%q passes", name)
		}
	}
	for _, name := range []string{"", "sallyport", "sallyportal_search", "sally_port_x", "my_sallyport_x", "sign_in", "salyport_x", "sallyports_list",
		"サリーポート", "sally", "\xff\xfe", "echo"} {
		if looksLikeOurs(name) {
			t.Errorf("%q does not pass", name)
		}
	}
}

// A tool of the server that has our name is cut out of each page, whatever the wire, and the log
// tells that once. A call of the name is answered by us, with the bytes of everything else as they
// came.
func TestNameOfOurs(t *testing.T) {
	const list = `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
	const page = `{"jsonrpc":"2.0","id":7, "result":{"tools":[ {"name":"sallyport_sign_in"},{"name":"a","n": 1.0} ],"nextCursor":"1"}}`
	const cut = `{"jsonrpc":"2.0","id":7, "result":{"tools":[{"name":"a","n": 1.0}],"nextCursor":"1"}}`
	const pageless = `{"jsonrpc":"2.0","id":7, "result":{"tools":[ {"name":"a"} ]}}`
	const signInCall = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"sallyport_\u0073ign_in"}}`
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		srv := New(t, append(Opening(version), Exchange{Call: "tools/list", Reply: page}, Exchange{Call: "tools/list", Handle: Events("data: " + page)},
			Exchange{Call: "tools/list", Reply: pageless}, Goodbye())...)
		h := start(t, Config{Send: srv.Transport(), Log: slog.New(slog.NewTextHandler(&log, nil))})
		h.open()
		for _, want := range []string{cut, cut, pageless} {
			h.send(list)
			h.want(want)
		}
		h.send(signInCall)
		if got := h.recv(); !strings.Contains(got, "is connected") {
			t.Errorf("got %s", got)
		}
		for _, name := range []string{`"Sallyport_sign_in"`, `"sallyport_x"`, `"sallyport_sign_in","name":"a"`, `"a","name":"sallyport_sign_in"`} {
			h.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%s}}`, name))
			if a := decode(t, h.recv()); a.Error.Code != -32602 || a.Error.Data.Kind != "reserved_tool" {
				t.Errorf("%s: got %+v", name, a)
			}
		}
		h.close()
		if got := strings.Count(log.String(), "one of the proxy's own"); got != 1 {
			t.Errorf("told %d times:\n%s", got, &log)
		}
	})
}
