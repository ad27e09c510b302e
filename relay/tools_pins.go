package relay

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"sallyport/relay/pins"
	"sallyport/relay/rawjson"
)

const (
	// MemoryPins is the name under which Config.Load and Config.Update know the accepted tools, a
	// pins.Record.
	MemoryPins = "pins"

	// firstUse is how long the first use of an upstream lasts at most, if the list of tools has
	// several pages and the host does not read the last one.
	firstUse = 10 * time.Minute
	// acceptEvery is how often we look whether a person has accepted tools, while some are hidden.
	acceptEvery = 5 * time.Second
	// maxToldTools is how many hidden tools one line of the log names.
	maxToldTools = 10
)

// toolPins hides the tools that are not those that a person has accepted (Config.PinTools).
type toolPins struct {
	*run
	// hostTakes reports whether the host takes notifications.
	hostTakes func() bool
	// write writes a line to the host.
	write func(line []byte)
	// wake is sent to when tools are hidden.
	wake chan struct{}

	mu sync.Mutex
	// loaded is the hash of what Config.Load has returned last, and record is what that holds,
	// without forms. record is nil if nothing was remembered.
	loaded [sha256.Size]byte
	record *pins.Record
	// unsaved says that the record is in memory only.
	unsaved bool
	// broken is why the record cannot be read. Nothing is shown then.
	broken error
	// changed has the tools that were hidden in the host's last list although the record knows
	// their names. So it is no larger than the record.
	changed map[string]pins.Tool
	// hiding says that something was hidden since the record was last accepted.
	hiding bool
	// told is the last line of the log about hidden tools.
	told string
}

func newToolPins(r *run, hostTakes func() bool, write func([]byte)) *toolPins {
	return &toolPins{run: r, hostTakes: hostTakes, write: write, wake: make(chan struct{}, 1), changed: map[string]pins.Tool{}}
}

// loadLocked reads the record, if it is another one than before.
func (p *toolPins) loadLocked() {
	if p.unsaved {
		return
	}
	b, err := p.cfg.Load(MemoryPins)
	if err == nil && p.broken == nil && p.record != nil && sha256.Sum256(b) == p.loaded {
		return
	}
	p.takeLocked(b, err)
}

// takeLocked makes b the record.
func (p *toolPins) takeLocked(b []byte, err error) {
	before := p.broken
	p.record, p.broken = nil, err
	if err == nil {
		p.record, p.broken = pins.Read(b)
	}
	p.record.DropForms()
	p.loaded = sha256.Sum256(b)
	if p.broken != nil && before == nil {
		p.cfg.Log.Warn("all tools are hidden, because those that were accepted cannot be read", "err", p.broken)
	}
}

// list returns the upstream's answer to a tools/list without the tools that are not accepted. It
// remembers those of the first use.
func (p *toolPins) list(answer []byte) []byte {
	result := rawjson.Member(answer, "result")
	listed := rawjson.Member(result, "tools")
	if listed == nil {
		return edited(answer, func([]byte) bool { return false })
	}
	page := pins.List(listed)
	more := rawjson.MemberText(result, "nextCursor") != ""
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loadLocked()
	if p.broken == nil && (p.record == nil || p.record.IsOpen(time.Now())) && (len(page) > 0 || p.record != nil) {
		p.learnLocked(page, more)
	}
	p.noteLocked(page)
	// Each tool is compared once. One that is not in page is in a key tools that repeats.
	accepted, i := map[*byte]bool{}, 0
	for raw := range rawjson.Elements(listed) {
		accepted[&raw[0]] = p.record != nil && p.record.Standing(page[i]) == pins.Accepted
		i++
	}
	return edited(answer, func(tool []byte) bool {
		if is, known := accepted[&tool[0]]; known {
			return is
		}
		return p.acceptedLocked(tool)
	})
}

// learnLocked accepts the page as one of the first use. Two proxies may do so at the same time.
func (p *toolPins) learnLocked(page []pins.Tool, more bool) {
	var taken []byte
	var failed error
	err := p.cfg.Update(MemoryPins, func(old []byte) []byte {
		record, err := pins.Read(old)
		now := time.Now()
		switch {
		case err != nil:
			failed = err
			return old
		case record == nil:
			record = pins.NewRecord(now)
		case !record.IsOpen(now): // another proxy has come first
			taken = old
			return old
		}
		record.Learn(page, more, now.Add(firstUse))
		taken = record.Bytes()
		return taken
	})
	p.takeLocked(taken, failed)
	p.unsaved = err != nil && p.record != nil
	if err != nil {
		p.cfg.Log.Warn("the tools are accepted for this session only, because they could not be remembered", "err", err)
	}
}

// acceptedLocked reports whether the raw tool is accepted.
func (p *toolPins) acceptedLocked(tool []byte) bool {
	return p.record != nil && p.record.Standing(pins.Of(tool)) == pins.Accepted
}

// shown reports whether the raw tool of the last session is shown before the server is reached.
// Where nothing is remembered yet, it is, as without Config.PinTools.
func (p *toolPins) shown(tool []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loadLocked()
	return p.broken == nil && p.record == nil || p.acceptedLocked(tool)
}

// noteLocked notes what is hidden of a page, and logs that once.
func (p *toolPins) noteLocked(page []pins.Tool) {
	if p.record == nil {
		return
	}
	for _, t := range page {
		if p.record.Standing(t) == pins.Accepted {
			delete(p.changed, t.Name)
		}
	}
	words := map[pins.Standing]string{pins.Changed: "changed", pins.New: "new", pins.Unfit: "cannot be remembered"}
	var names []string
	hidden := 0
	for _, t := range page {
		standing := p.record.Standing(t)
		if standing == pins.Changed {
			t.Form = nil // the hash is enough
			p.changed[t.Name] = t
		}
		if words[standing] == "" {
			continue
		}
		if hidden++; hidden <= maxToldTools {
			names = append(names, fmt.Sprintf("%s (%s)", clean(t.Name, p.cfg.Mask, 64), words[standing]))
		}
	}
	if hidden == 0 {
		return
	}
	p.hiding = true
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if told := strings.Join(names, ", "); told != p.told {
		p.told = told
		p.cfg.Log.Warn("tools are hidden, because nobody has accepted them as they are now",
			"tools", told, "count", hidden, "hint", strings.Join(p.cfg.PinHints, "; "))
	}
}

// refuse returns the answer to a call of the tool called name, or nil if it may be called.
func (p *toolPins) refuse(name string) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.record == nil || p.refusalLocked(name) != nil {
		p.loadLocked() // a person may just have accepted it
	}
	return p.refusalLocked(name)
}

func (p *toolPins) refusalLocked(name string) *fault {
	short := excerpt(name, 64)
	switch {
	case p.broken != nil:
		return newFault(codeParams, "changed_tool", "the accepted tools cannot be read, so none is called: "+p.broken.Error(), p.cfg.PinHints...)
	case p.record == nil:
		return nil // nothing is remembered yet, so all is as without Config.PinTools
	case !p.record.Has(name) && !p.record.IsOpen(time.Now()):
		return newFault(codeParams, "new_tool",
			fmt.Sprintf("tool %q is hidden here: it was not there when the server's tools were accepted", short), p.cfg.PinHints...)
	}
	if now, ok := p.changed[name]; ok && p.record.Standing(now) == pins.Changed {
		return newFault(codeParams, "changed_tool",
			fmt.Sprintf("tool %q is hidden here: the server has changed its description or schema since it was accepted", short), p.cfg.PinHints...)
	}
	return nil
}

// watch tells the host that the list of tools has changed when a person has accepted tools that
// were hidden. It ends with the session.
func (p *toolPins) watch() {
	for {
		select {
		case <-p.wake:
		case <-p.ctx.Done():
			return
		}
		for p.stillHiding() {
			if _, err := pause(p.ctx, acceptEvery, nil); err != nil {
				return
			}
			if p.acceptance() && p.hostTakes() {
				p.write(listChanged("tools"))
			}
		}
	}
}

func (p *toolPins) stillHiding() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hiding
}

// acceptance reports whether the record has become another one since something was hidden.
func (p *toolPins) acceptance() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b, err := p.cfg.Load(MemoryPins)
	if err != nil || sha256.Sum256(b) == p.loaded {
		return false
	}
	p.hiding, p.told = false, ""
	p.takeLocked(b, nil)
	return true
}

// refusesNamed returns the answer to a call with these raw params. If the key name repeats, all its
// values have to be accepted.
func (p *toolPins) refusesNamed(params []byte) *fault {
	for val := range rawjson.Values(params, "name") {
		name := ""
		if val[0] == '"' {
			name = rawjson.Text(val)
		}
		if f := p.refuse(name); f != nil {
			return f
		}
	}
	return nil
}
