package relay

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"sallyport/relay/rawjson"
	. "sallyport/relay/relaytest"
)

// memory is a Config.Load and Save.
type memory struct {
	mu    sync.Mutex
	m     map[string]string
	saved []string // names
}

func (m *memory) load(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, ok := m.m[name]; ok {
		return []byte(v), nil
	}
	return rememberLegacy(name)
}

func (m *memory) save(name string, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.m[name] = string(b)
	m.saved = append(m.saved, name)
	return nil
}

const (
	lastSession = `{"protocolVersion":"2025-11-25", "capabilities":{"tools":{"x":1},"logging":{}},"serverInfo":{"name":"s","version":"9"},"n":1e400}`
	lastTools   = `[{"name":"add","n":1e400 ,"é":"\ud800"},{"name":"sub"}]`
)

func TestRememberedSession(t *testing.T) {
	const told = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25", "capabilities":{"tools":{"x":1,"listChanged":true},"logging":{}},` +
		`"serverInfo":{"name":"s","version":"9"},"n":1e400}}`
	const tools = `{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"add","n":1e400 ,"é":"\ud800"},{"name":"sub"}`
	synctest.Test(t, func(t *testing.T) {
		m := &memory{m: map[string]string{memoryInitialize: lastSession, memoryTools: lastTools}}
		b := newObstacle(down)
		srv := New(t, append(Opening("2025-06-18"), Goodbye())...)
		h := start(t, Config{Send: gated{b, srv.Transport(), false}, Obstacle: b.get, Load: m.load, Save: m.save})
		h.send(initLine)
		h.want(told)
		h.send(initializedLine)
		h.send(request7("tools/list")) // only the link is in the way
		h.want(tools + `]}}`)
		b.set(signInNeeded) // the link is up, the token is not good any more
		h.want(toolsChanged)
		h.send(request7("tools/list"))
		h.want(tools + `,` + string(signInToolEntry()) + `,` + string(callToolEntry()) + `]}}`)
		b.set(nil)
		h.want(toolsChanged)
		// The server speaks an older version today: the headers say so, as the script wants.
		h.close()
		if want := `{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"scripted","version":"1"}}`; m.m[memoryInitialize] != want {
			t.Errorf("remembered %s, want %s", m.m[memoryInitialize], want)
		}
	})
}

func TestRememberedVersionIsNoNewerThanAsked(t *testing.T) {
	for asked, want := range map[string]string{"2025-06-18": "2025-06-18", "2026-01-01": "2025-11-25", "": "2025-11-25"} {
		got := rawjson.MemberText(rememberedResult([]byte(lastSession), []byte(`{"protocolVersion":"`+asked+`"}`)), "protocolVersion")
		if got != want {
			t.Errorf("asked for %q: %q, want %q", asked, got, want)
		}
	}
}

// Damaged memory is none.
func TestDamagedMemory(t *testing.T) {
	for name, load := range map[string]func(string) ([]byte, error){
		"no JSON": func(string) ([]byte, error) { return []byte(`{"protocolVersion":`), nil },
		"error":   func(string) ([]byte, error) { return nil, errors.New("disk") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t, Config{Send: gated{b: newObstacle(down)}, Obstacle: newObstacle(down).get, Load: load})
				h.send(initLine)
				if line := h.recv(); !strings.HasPrefix(line, minimalHead) {
					t.Errorf("got %s", line)
				}
				h.close()
			})
		})
	}
}

// The result of initialize and all pages of the tools are kept as they came, and not again where
// nothing changed.
func TestSessionIsRemembered(t *testing.T) {
	page := func(cursor string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{` + cursor + `}}`
	}
	synctest.Test(t, func(t *testing.T) {
		m := &memory{m: map[string]string{}}
		script := Opening(version)
		script[0].Reply = `{"jsonrpc":"2.0","id":0,"result":` + lastSession + `}`
		reply := func(result string) string { return `{"jsonrpc":"2.0","id":7,"result":` + result + `}` }
		for range 2 {
			script = append(script,
				Exchange{Call: "tools/list", Body: page(``), Reply: reply(`{"tools":[{"name":"add","n":1e400 ,"é":"\ud800"}],"nextCursor":"2"}`)},
				Exchange{Call: "tools/list", Body: page(`"cursor":"2"`), Reply: reply(`{"tools":[{"name":"sub"}]}`)})
		}
		script = append(script, Exchange{Call: "tools/list", Body: page(`"cursor":"9"`), Reply: reply(`{"tools":[{"name":"x"}]}`)})
		h := start(t, Config{Send: New(t, append(script, Goodbye())...).Transport(), Load: m.load, Save: m.save})
		h.open()
		for _, cursor := range []string{``, `"cursor":"2"`, ``, `"cursor":"2"`, `"cursor":"9"`} {
			h.send(page(cursor))
			h.recv()
			synctest.Wait()
		}
		h.close()
		if m.m[memoryInitialize] != lastSession || m.m[memoryTools] != `[{"name":"add","n":1e400 ,"é":"\ud800"},{"name":"sub"}]` {
			t.Errorf("remembered %q", m.m)
		}
		if want := []string{memoryInitialize, memoryStream, memoryTools}; !slices.Equal(m.saved, want) {
			t.Errorf("saved %q, want %q", m.saved, want)
		}
	})
}

// What server/discover was answered with is remembered for a modern host.
func TestDiscoveredIsRemembered(t *testing.T) {
	const result = `{"resultType":"complete","supportedVersions":["2026-07-28"], "capabilities":{},"n":1e400}`
	synctest.Test(t, func(t *testing.T) {
		m := &memory{m: map[string]string{memoryEra: string(modernEra)}}
		h := start(t, Config{Send: New(t, Exchange{Call: "server/discover", Reply: `{"jsonrpc":"2.0","id":1,"result":` + result + `}`}).Transport(), Load: m.load, Save: m.save})
		h.send(`{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`)
		h.recv()
		h.close()
		if m.m[memoryDiscover] != result {
			t.Errorf("remembered %q", m.m)
		}
	})
}
