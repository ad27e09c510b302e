package sshconfig

import (
	"strings"
	"testing"
)

func TestMatchList(t *testing.T) {
	tests := []struct {
		s, list string
		want    int
	}{
		{"web", "web", 1}, {"web", "w*b", 1}, {"web", "w?b", 1}, {"web", "web?", 0}, {"web", "db,w*", 1},
		{"web", "w*,!web", -1}, {"web", "!db", 0}, {"", "*", 1}, {"", "", 0}, {"aab", "*a*b", 1}, {"web", "WEB", 0},
	}
	for _, tt := range tests {
		if got := matchList(tt.s, tt.list, false); got != tt.want {
			t.Errorf("matchList(%q, %q) = %d, want %d", tt.s, tt.list, got, tt.want)
		}
	}
}

func TestMatchPatternsIgnoresTheCaseOfPatterns(t *testing.T) {
	long := "*" + strings.Repeat("x", maxPattern)
	for _, tt := range []struct {
		name, list string
		want       bool
	}{
		{"web", "WEB", true}, {"web", "W?B,", true}, {"web", "*,!WE*", false}, {"w\xffb", "W\xffB", true}, {"wéb", "wÉb", false},
		{"web", long + ",web", false},
	} {
		if got := MatchPatterns(tt.name, tt.list); got != tt.want {
			t.Errorf("MatchPatterns(%q, %.20q) = %v", tt.name, tt.list, got)
		}
	}
}
