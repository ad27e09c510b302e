package explain

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/relay"
)

// TestEveryKindHasItsTopic reads the kinds from the constants, so that a new one cannot be
// forgotten.
func TestEveryKindHasItsTopic(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "explain.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []string{relay.KindSignIn, relay.KindRefused,
		"ignored_tool", "changed_tool", "new_tool", "redirect", "session", "bad_answer", "too_large", "initialize"} // relay says these
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(spec.Names[0].Name, "Kind") {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				kind, _ := strconv.Unquote(lit.Value)
				kinds = append(kinds, kind)
			}
		}
		return true
	})
	if slices.Sort(kinds); len(kinds) < 10 || !slices.Equal(kinds, Topics()) {
		t.Errorf("the kinds are %q\nand the topics %q", kinds, Topics())
	}
	for _, kind := range Topics() {
		text := Topic(kind)
		for _, part := range []string{"\n\nCause and fix:\n", "\n\nHow to see it:\n"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the part %q is missing", kind, strings.TrimSpace(part))
			}
		}
		for line := range strings.Lines(text) {
			if len(line) > 80 {
				t.Errorf("%s: a line is too long: %s", kind, line)
			}
		}
	}
	if got := Topic("../topic"); got != "" {
		t.Errorf("a path is no kind: got %q", got)
	}
}
