package relay

import (
	"bytes"

	"sallyport/relay/rawjson"
)

// Names of what is remembered of the last session (Config.Load and Save).
const (
	memoryInitialize = "initialize" // the result of initialize, as it came
	memoryTools      = "tools"      // an array of all tools, each as it came
	memoryDiscover   = "discover"   // the result of server/discover for a modern host, as it came
)

// maxMemory is the most bytes that are remembered under one name.
const maxMemory = 4 << 20

// recall returns what was remembered under name, nil if there is nothing or it is damaged.
func (s *session) recall(name string) []byte {
	b, err := s.cfg.Load(name)
	if err != nil {
		s.cfg.Log.Warn("the last session is not remembered", "err", err)
		return nil
	}
	if m, err := rawjson.Parse(bytes.Clone(b)); err == nil {
		return m.Raw
	}
	return nil
}

// remember keeps b under name unless that is what is there.
func (s *session) remember(name string, b []byte) {
	if len(b) == 0 || len(b) > maxMemory || bytes.Equal(b, s.recall(name)) {
		return
	}
	if err := s.cfg.Save(name, b); err != nil {
		s.cfg.Log.Warn("the session will not be remembered", "err", err)
	}
}

// rememberTools adds the answer to the tools/list c to the list being read, and keeps it when it is complete.
func (s *session) rememberTools(c *call, line []byte) {
	result := rawjson.Member(line, "result")
	cursor, next := rawjson.MemberText(c.Params, "cursor"), rawjson.MemberText(result, "nextCursor")
	list := rawjson.Elements(bytes.Clone(rawjson.Member(result, "tools")))
	s.mu.Lock()
	switch {
	case result == nil || cursor != "" && cursor != s.nextTools:
		s.mu.Unlock()
		return
	case cursor != "":
		list = append(s.tools, list...)
	}
	s.tools, s.nextTools = list, next
	s.mu.Unlock()
	if next != "" {
		return
	}
	s.remember(memoryTools, rawjson.ArrayOf(list))
}
