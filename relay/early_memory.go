package relay

import (
	"bytes"
	"sync"

	"sallyport/relay/rawjson"
)

// Names of what is remembered of the last session (Config.Load and Save). All of it is kept as it
// came.
const (
	memoryInitialize = "initialize" // the result of initialize
	memoryTools      = "tools"      // an array of all tools
	memoryDiscover   = "discover"   // the result of server/discover, as a modern host got it
)

// maxMemory is the most bytes that are remembered under one name.
const maxMemory = 4 << 20

// sessionMemory is what one session learns for the next.
type sessionMemory struct {
	*run

	mu sync.Mutex
	// tools are those on the pages of a tools/list so far, and nextPage is the cursor of the next
	// one.
	tools    [][]byte
	nextPage string
}

// recall returns what was remembered under name. It is nil if there is nothing, or if that is
// damaged.
func (m *sessionMemory) recall(name string) []byte {
	b, err := m.cfg.Load(name)
	if err != nil {
		m.cfg.Log.Warn("the last session is not remembered", "err", err)
		return nil
	}
	if text, err := rawjson.Parse(bytes.Clone(b)); err == nil {
		return text.Raw
	}
	return nil
}

// remember keeps b under name, unless it is empty, too large, or there already.
func (m *sessionMemory) remember(name string, b []byte) {
	if len(b) == 0 || len(b) > maxMemory || bytes.Equal(b, m.recall(name)) {
		return
	}
	if err := m.cfg.Save(name, b); err != nil {
		m.cfg.Log.Warn("the session will not be remembered", "err", err)
	}
}

// rememberTools adds the answer to the tools/list c to the list that is being read, and keeps the
// list when it is complete.
func (m *sessionMemory) rememberTools(c *call, line []byte) {
	result := rawjson.Member(line, "result")
	cursor, next := rawjson.MemberText(c.Params, "cursor"), rawjson.MemberText(result, "nextCursor")
	list := rawjson.Elements(bytes.Clone(rawjson.Member(result, "tools")))
	m.mu.Lock()
	switch {
	case result == nil || cursor != "" && cursor != m.nextPage:
		m.mu.Unlock()
		return
	case cursor != "":
		list = append(m.tools, list...)
	}
	m.tools, m.nextPage = list, next
	m.mu.Unlock()
	if next != "" {
		return
	}
	m.remember(memoryTools, rawjson.ArrayOf(list))
}
