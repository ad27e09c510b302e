package sshconfig

import (
	"encoding/json"
	"maps"
	"slices"
)

// hostFields is a Host without its methods, so that encoding/json does not call them again.
type hostFields Host

// hostJSON is the JSON form of a Host. It is for another process of the same user, which must know
// all that this one has resolved.
type hostJSON struct {
	*hostFields
	// Settings, Tokens and Named are the fields that are not exported.
	Settings []Setting
	Tokens   map[byte]string
	Named    bool
}

// MarshalJSON writes the whole Host. A Host that UnmarshalJSON makes of it is equal to h.
func (h *Host) MarshalJSON() ([]byte, error) {
	return json.Marshal(hostJSON{hostFields: (*hostFields)(h), Settings: h.settings, Tokens: h.tokens, Named: h.named})
}

// UnmarshalJSON reads what MarshalJSON has written.
func (h *Host) UnmarshalJSON(text []byte) error {
	var read Host
	in := hostJSON{hostFields: (*hostFields)(&read)}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	read.settings, read.tokens, read.named = in.Settings, in.Tokens, in.Named
	*h = read
	return nil
}

// Keywords returns every keyword that a line of ssh_config may begin with, in lower case and
// sorted. The older names that OpenSSH still takes are among them.
func Keywords() []string {
	names := slices.Concat([]string{"host", "match", "include"}, slices.Collect(maps.Keys(setters)), slices.Collect(maps.Keys(keywordAliases)))
	slices.Sort(names)
	return names
}
