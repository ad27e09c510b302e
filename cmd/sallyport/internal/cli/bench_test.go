package cli

import (
	"io"
	"testing"

	"sallyport/cmd/sallyport/internal/environment"
)

// BenchmarkParse is the part of a proxy's start that reads its settings.
func BenchmarkParse(b *testing.B) {
	env := environment.Fixed(map[string]string{}, "/home/person")
	for b.Loop() {
		if _, err := Parse([]string{"--grant", "none", "--token-store", "memory", "https://u.example/mcp"}, env, io.Discard, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
