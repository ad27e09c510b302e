package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowedImports is the import rule: three libraries that have never heard of each other, and mains
// that introduce them. A name stands for itself and all below it; the standard library is always allowed.
var allowedImports = map[string][]string{
	"sallyport/sshtunnel":                          {"golang.org/x/crypto/ssh", "github.com/kevinburke/ssh_config", "golang.org/x/sys", "github.com/Microsoft/go-winio"},
	"sallyport/sshtunnel/sshtest":                  {"golang.org/x/crypto/ssh", "golang.org/x/sys"},
	"sallyport/oauth":                              {"golang.org/x/oauth2", "github.com/modelcontextprotocol/go-sdk", "github.com/go-jose/go-jose/v4", "github.com/gofrs/flock", "github.com/godbus/dbus/v5", "github.com/zalando/go-keyring"},
	"sallyport/oauth/oauthtest":                    {"github.com/go-jose/go-jose/v4"},
	"sallyport/relay":                              {},
	"sallyport/relay/relaytest":                    {},
	"sallyport/cmd/sallyport":                      {"sallyport/cmd/sallyport/internal/command", "sallyport/cmd/sallyport/internal/environment", "sallyport/cmd/sallyport/internal/hostio"},
	"sallyport/cmd/sallyport/internal/environment": {},
	"sallyport/cmd/sallyport/internal/cli":         {"github.com/alecthomas/kong", "sallyport/cmd/sallyport/internal/environment"},
	"sallyport/cmd/sallyport/internal/person":      {"github.com/anmitsu/go-shlex", "golang.org/x/sys", "golang.org/x/term", "sallyport/cmd/sallyport/internal/environment", "sallyport/oauth", "sallyport/sshtunnel"},
	"sallyport/cmd/sallyport/internal/control":     {},
	"sallyport/cmd/sallyport/internal/hostio":      {"golang.org/x/sys"},
	"sallyport/cmd/sallyport/internal/session":     {"code.dny.dev/ssrf", "golang.org/x/net/http", "sallyport/cmd/sallyport/internal/cli", "sallyport/cmd/sallyport/internal/environment", "sallyport/oauth", "sallyport/sshtunnel"},
	"sallyport/cmd/sallyport/internal/callback":    {"sallyport/cmd/sallyport/internal/session", "sallyport/sshtunnel"},
	"sallyport/cmd/sallyport/internal/explain":     {"sallyport/cmd/sallyport/internal/callback", "sallyport/cmd/sallyport/internal/cli", "sallyport/cmd/sallyport/internal/person", "sallyport/cmd/sallyport/internal/session", "sallyport/oauth", "sallyport/relay", "sallyport/sshtunnel"},
	"sallyport/cmd/sallyport/internal/obstacle":    {"sallyport/cmd/sallyport/internal/explain", "sallyport/cmd/sallyport/internal/person", "sallyport/oauth", "sallyport/relay", "sallyport/sshtunnel"},
	"sallyport/cmd/sallyport/internal/command":     {"gopkg.in/natefinch/lumberjack.v2", "sallyport/cmd/sallyport/internal/callback", "sallyport/cmd/sallyport/internal/cli", "sallyport/cmd/sallyport/internal/control", "sallyport/cmd/sallyport/internal/environment", "sallyport/cmd/sallyport/internal/explain", "sallyport/cmd/sallyport/internal/hostio", "sallyport/cmd/sallyport/internal/obstacle", "sallyport/cmd/sallyport/internal/person", "sallyport/cmd/sallyport/internal/session", "sallyport/oauth", "sallyport/relay", "sallyport/sshtunnel"},
	"sallyport/cmd/demo": {
		"golang.org/x/crypto/ssh", "github.com/modelcontextprotocol/go-sdk",
		"sallyport/sshtunnel/sshtest", "sallyport/oauth/oauthtest",
	},
}

func TestImportRule(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "sallyport/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	seen := 0
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		allowed, ok := allowedImports[pkg.ImportPath]
		if !ok {
			t.Errorf("package %s is not in the table of the import rule", pkg.ImportPath)
		}
		for _, path := range pkg.Imports {
			first, _, _ := strings.Cut(path, "/")
			ours := first == "sallyport"
			standard := !strings.Contains(first, ".") && !ours
			inAllowed := func(prefix string) bool {
				return path == prefix || !ours && strings.HasPrefix(path, prefix+"/")
			}
			if !standard && !slices.ContainsFunc(allowed, inAllowed) {
				t.Errorf("%s may not import %s", pkg.ImportPath, path)
			}
		}
	}
	if seen != len(allowedImports) {
		t.Errorf("go list shows %d packages, the table has %d", seen, len(allowedImports))
	}
}

// TestProcessGlobals keeps what belongs to the process in the mains, which pass it in, and a bypass of
// host keys out of everything but tests.
func TestProcessGlobals(t *testing.T) {
	globals := map[string][]string{
		"os":  {"Exit", "Args", "Stdin", "Stdout", "Stderr", "Getenv", "LookupEnv", "Environ"},
		"ssh": {"InsecureIgnoreHostKey"},
		"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Default"},
	}
	files := 0
	for _, dir := range []string{"sshtunnel", "oauth", "relay", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if strings.Contains(path, "node_modules") {
				return nil
			}
			files++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				pkg, ok := sel.X.(*ast.Ident)
				if ok && slices.Contains(globals[pkg.Name], sel.Sel.Name) && (dir != "cmd" || pkg.Name == "ssh") {
					t.Errorf("%s uses %s.%s", path, pkg.Name, sel.Sel.Name)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 20 {
		t.Errorf("only %d files were read", files)
	}
}
