package mux

import (
	"encoding/json"
	"strings"
	"testing"
)

// However many users there are and whatever they say, a status fits into a line.
func TestStatusFits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		users int
		size  int // of each purpose, and of the state's text
		left  bool
		state bool
	}{
		{"a few", 30, 100, true, true},
		{"many", 1000, 100, true, true},
		{"long ones", 10, 60_000, true, true},
		{"a long state", 1, MaxLine, false, false},
	} {
		s := Status{Attached: tt.users, State: &State{Phase: "down", Error: &Error{Text: strings.Repeat("x", tt.size)}}}
		if tt.state {
			s.State.Error.Text = "short"
		}
		for range tt.users {
			s.Users = append(s.Users, User{Purpose: strings.Repeat("x", tt.size)})
		}
		s.Fit()
		line, err := json.Marshal(Reply{Status: &s})
		if err != nil {
			t.Fatal(err)
		}
		if len(line) >= MaxLine || len(s.Users) > 0 != tt.left || s.State != nil != tt.state || s.Attached != tt.users {
			t.Errorf("%s: %d bytes, %d users, state %v", tt.name, len(line), len(s.Users), s.State != nil)
		}
	}
}
