package pins

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// recordVersion is the version of the stored form of a Record.
const recordVersion = 1

// Standing is what a record says of a tool.
type Standing int

// Values of Standing.
const (
	// Unfit: the tool cannot be remembered, so it is never accepted.
	Unfit Standing = iota
	// Accepted: the tool is one of those in the record.
	Accepted
	// Changed: the record has a tool of this name, and not with this form.
	Changed
	// New: the record has no tool of this name.
	New
)

// Record is the tools that were accepted for one account of one upstream. Its methods may not be
// called concurrently with Add and Close.
type Record struct {
	stored
	// index has the entries by their names.
	index map[string][]*entry
	// names and forms are how many bytes the entries take.
	names, forms int
}

// stored is a Record as it is stored.
type stored struct {
	Version int `json:"version"`
	// Since is when the first tool was remembered, or when a person has last accepted tools.
	Since time.Time `json:"since,omitzero"`
	// OpenUntil is when the first use ends: until then tools of new names are added. It is zero if
	// the first use has ended.
	OpenUntil time.Time `json:"open_until,omitzero"`
	Tools     []*entry  `json:"tools"`
}

// entry is one form of one tool.
type entry struct {
	Name string `json:"name"`
	Hash []byte `json:"hash"`
	// Form is nil if it had no room.
	Form json.RawMessage `json:"form,omitempty"`
}

// NewRecord returns a record without tools.
func NewRecord(now time.Time) *Record {
	return &Record{stored: stored{Version: recordVersion, Since: now}, index: map[string][]*entry{}}
}

// Read returns the record that Bytes has returned. It is nil if b is empty, because nothing was
// remembered then.
func Read(b []byte) (*Record, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := NewRecord(time.Time{})
	if err := json.Unmarshal(b, &r.stored); err != nil {
		return nil, fmt.Errorf("the remembered tools: %w", err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("the remembered tools are those of another version (%d)", r.Version)
	}
	for _, e := range r.Tools {
		if e == nil {
			return nil, fmt.Errorf("the remembered tools have a gap")
		}
		r.count(e)
	}
	return r, nil
}

// Bytes returns what Read takes.
func (r *Record) Bytes() []byte {
	b, _ := json.Marshal(r.stored) // a form is JSON, and nothing else in it can fail
	return b
}

// DropForms forgets the forms, to save memory. Standing works as before. A nil r has none.
func (r *Record) DropForms() {
	if r == nil {
		return
	}
	for _, e := range r.Tools {
		e.Form = nil
	}
}

func (r *Record) count(e *entry) {
	r.index[e.Name] = append(r.index[e.Name], e)
	r.names += len(e.Name) + perEntry
	r.forms += len(e.Form)
}

// Len is how many entries r has.
func (r *Record) Len() int { return len(r.Tools) }

// Has reports whether r has a tool of that name.
func (r *Record) Has(name string) bool { return len(r.index[name]) > 0 }

// Standing says what r has of t.
func (r *Record) Standing(t Tool) Standing {
	switch {
	case t.Name == "":
		return Unfit
	case !r.Has(t.Name):
		return New
	case slices.ContainsFunc(r.index[t.Name], func(e *entry) bool { return string(e.Hash) == string(t.hash[:]) }):
		return Accepted
	}
	return Changed
}

// Add accepts t. It reports false if t is unfit, or if there is no room.
func (r *Record) Add(t Tool) bool {
	switch {
	case r.Standing(t) == Unfit || r.names+len(t.Name)+perEntry > maxNames:
		return false
	case r.Standing(t) == Accepted:
		return true
	}
	e := &entry{Name: t.Name, Hash: t.hash[:]}
	if len(t.Form) <= maxForm && r.forms+len(t.Form) <= maxForms {
		e.Form = t.Form
	}
	r.Tools = append(r.Tools, e)
	r.count(e)
	return true
}

// IsOpen reports whether the first use goes on.
func (r *Record) IsOpen(now time.Time) bool { return now.Before(r.OpenUntil) }

// Learn accepts the tools of a page of the first use. more says that pages follow; the first use
// then goes on, but not beyond until. A tool whose name was there before stays what it was.
func (r *Record) Learn(page []Tool, more bool, until time.Time) {
	before := map[string]bool{}
	for _, t := range page {
		if _, seen := before[t.Name]; !seen {
			before[t.Name] = r.Has(t.Name)
		}
		if !before[t.Name] {
			r.Add(t)
		}
	}
	switch {
	case !more:
		r.OpenUntil = time.Time{}
	case r.OpenUntil.IsZero():
		r.OpenUntil = until
	}
}

// Change is a difference between a record and the tools that a server has.
type Change struct {
	Name string
	// Kind is Added, Altered or Removed.
	Kind ChangeKind
	// Before and Now are the forms, one after the other if there are several. They are nil if there
	// are none, and Before also if it had no room in the record.
	Before, Now []byte
}

// ChangeKind is what has become of a tool.
type ChangeKind string

// Values of ChangeKind.
const (
	Added   ChangeKind = "added"
	Altered ChangeKind = "changed"
	Removed ChangeKind = "removed"
	// Refused is a tool that cannot be remembered.
	Refused ChangeKind = "unfit"
)

// Changes compares r with the tools that the server has now, sorted by name. A nil r has no tools.
func (r *Record) Changes(now []Tool) []Change {
	if r == nil {
		r = NewRecord(time.Time{})
	}
	var changes []Change
	present, told := map[string][]Tool{}, map[string]bool{}
	for _, t := range now {
		present[t.Name] = append(present[t.Name], t)
	}
	for _, t := range now {
		kind := map[Standing]ChangeKind{New: Added, Changed: Altered, Unfit: Refused}[r.Standing(t)]
		if kind == "" || told[t.Name] {
			continue
		}
		told[t.Name] = true
		changes = append(changes, Change{Name: t.Name, Kind: kind, Before: r.formsOf(t.Name), Now: formsOf(present[t.Name])})
	}
	for _, e := range r.Tools {
		if len(present[e.Name]) == 0 && !told[e.Name] {
			told[e.Name] = true
			changes = append(changes, Change{Name: e.Name, Kind: Removed, Before: r.formsOf(e.Name)})
		}
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// formsOf returns the forms that r has of a tool, one on each line. It is nil if one is missing.
func (r *Record) formsOf(name string) []byte {
	var all []byte
	for _, e := range r.index[name] {
		if e.Form == nil {
			return nil
		}
		all = append(append(all, e.Form...), '\n')
	}
	return all
}

func formsOf(tools []Tool) []byte {
	var all []byte
	for _, t := range tools {
		all = append(append(all, t.Form...), '\n')
	}
	return all
}

// Names returns the names of the tools, sorted, each once.
func (r *Record) Names() []string {
	return slices.Sorted(maps.Keys(r.index))
}
