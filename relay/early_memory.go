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
	// tools are those on the pages of a tools/list so far, a raw array. nextPage is the cursor of
	// the next page.
	tools    []byte
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
	page := rawjson.Member(result, "tools")
	cursor, next := rawjson.MemberText(c.Params, "cursor"), rawjson.MemberText(result, "nextCursor")
	if result == nil {
		return
	}
	if list := m.join(page, cursor, next); list != nil {
		m.remember(memoryTools, list)
	}
}

// join adds a page, which was asked for with cursor, to those before it. It returns the list if
// next is "", because then the page is the last one.
func (m *sessionMemory) join(page []byte, cursor, next string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []byte("[]")
	if cursor != "" {
		if cursor != m.nextPage {
			return nil
		}
		list = m.tools
	}
	m.tools, m.nextPage = nil, ""
	if len(list)+len(page)+len(next) > maxMemory {
		return nil // the pages that follow are not those of a list that we know
	}
	if list = rawjson.Join(list, page); next == "" {
		return list
	}
	m.tools, m.nextPage = list, next
	return nil
}
