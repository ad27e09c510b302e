package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowedImports is the import rule: three libraries that never import each other, and mains that
// introduce them. Packages below a library import only their own kind, and those of the command
// only what stands above them here. A name of another module stands for all packages below it too.
// Every package may import the standard library.
var allowedImports = map[string][]string{
	"sshtunnel": {
		"golang.org/x/crypto/ssh", "golang.org/x/sys",
		"sshtunnel/channel", "sshtunnel/cleartext", "sshtunnel/display", "sshtunnel/hostkeys", "sshtunnel/mux", "sshtunnel/muxstream", "sshtunnel/netwatch",
		"sshtunnel/refusals", "sshtunnel/served", "sshtunnel/spare", "sshtunnel/sshconfig", "sshtunnel/subprocess", "sshtunnel/userkeys",
	},
	"sshtunnel/channel":    {"golang.org/x/crypto/ssh"},
	"sshtunnel/cleartext":  {"golang.org/x/crypto/ssh", "sshtunnel/display", "sshtunnel/userkeys"},
	"sshtunnel/display":    {},
	"sshtunnel/mux":        {"golang.org/x/sys"},
	"sshtunnel/muxstream":  {"sshtunnel/mux"},
	"sshtunnel/netwatch":   {"golang.org/x/sys"},
	"sshtunnel/refusals":   {"github.com/gofrs/flock"},
	"sshtunnel/served":     {"sshtunnel/mux"},
	"sshtunnel/spare":      {"sshtunnel/mux"},
	"sshtunnel/subprocess": {"sshtunnel/display"},
	"sshtunnel/sshconfig":  {"github.com/kevinburke/ssh_config", "sshtunnel/display"},
	"sshtunnel/hostkeys":   {"golang.org/x/crypto/ssh", "golang.org/x/sys", "sshtunnel/display", "sshtunnel/sshconfig"},
	"sshtunnel/userkeys": {
		"golang.org/x/crypto", "github.com/Microsoft/go-winio",
		"sshtunnel/display", "sshtunnel/hostkeys", "sshtunnel/sshconfig",
	},

	"oauth":            {"golang.org/x/oauth2", "oauth/asclient", "oauth/loopback", "oauth/procnet", "oauth/tokenstore"},
	"oauth/asclient":   {"github.com/go-jose/go-jose/v4"},
	"oauth/loopback":   {},
	"oauth/procnet":    {},
	"oauth/tokenstore": {"github.com/gofrs/flock", "github.com/godbus/dbus/v5", "github.com/zalando/go-keyring"},

	"relay":         {"relay/pins", "relay/rawjson", "relay/sse"},
	"relay/pins":    {"relay/rawjson"},
	"relay/rawjson": {},
	"relay/sse":     {},

	// From the bottom to the top.
	"cmd/sallyport/internal/environment": {"golang.org/x/mod/semver", "golang.org/x/net/http/httpproxy"},
	"cmd/sallyport/internal/lazyregexp":  {},
	"cmd/sallyport/internal/localsock":   {"golang.org/x/sys", "github.com/Microsoft/go-winio"},
	"cmd/sallyport/internal/agents":      {"cmd/sallyport/internal/environment", "cmd/sallyport/internal/localsock"},
	"cmd/sallyport/internal/control":     {"cmd/sallyport/internal/localsock"},
	"cmd/sallyport/internal/helper":      {"github.com/hashicorp/yamux", "sshtunnel", "sshtunnel/netwatch", "cmd/sallyport/internal/localsock"},
	"cmd/sallyport/internal/hostio":      {"golang.org/x/sys"},
	"cmd/sallyport/internal/cli": {
		"github.com/agnivade/levenshtein", "github.com/alecthomas/kong",
		"cmd/sallyport/internal/environment", "cmd/sallyport/internal/lazyregexp",
	},
	"cmd/sallyport/internal/farbrowser": {
		"github.com/gofrs/flock", "golang.org/x/net/idna", "golang.org/x/sys", "oauth/procnet",
		"cmd/sallyport/internal/environment", "cmd/sallyport/internal/lazyregexp", "cmd/sallyport/internal/localsock",
	},
	"cmd/sallyport/internal/deploy":  {"cmd/sallyport/internal/environment"},
	"cmd/sallyport/internal/service": {"cmd/sallyport/internal/environment"},
	"cmd/sallyport/internal/install": {
		"github.com/pelletier/go-toml/v2", "github.com/rogpeppe/go-internal/diff", "github.com/tailscale/hujson", "go.yaml.in/yaml/v4",
		"cmd/sallyport/internal/environment", "cmd/sallyport/internal/lazyregexp",
	},
	"cmd/sallyport/internal/person": {
		"github.com/anmitsu/go-shlex", "golang.org/x/net/idna", "golang.org/x/sys", "golang.org/x/term", "sshtunnel", "oauth",
		"cmd/sallyport/internal/environment", "cmd/sallyport/internal/farbrowser", "cmd/sallyport/internal/helper",
	},
	"cmd/sallyport/internal/toolreport": {"github.com/rogpeppe/go-internal/diff", "relay/pins", "relay/rawjson", "cmd/sallyport/internal/person"},
	"cmd/sallyport/internal/audit":      {"github.com/gofrs/flock", "cmd/sallyport/internal/person"},
	"cmd/sallyport/internal/share": {
		"github.com/gofrs/flock", "golang.org/x/mod/semver",
		"sshtunnel", "sshtunnel/mux", "sshtunnel/netwatch", "sshtunnel/refusals", "sshtunnel/sshconfig",
		"cmd/sallyport/internal/environment", "cmd/sallyport/internal/localsock",
	},
	"cmd/sallyport/internal/roots": {"golang.org/x/crypto/cryptobyte"},
	"cmd/sallyport/internal/session": {
		"code.dny.dev/ssrf", "golang.org/x/net/http", "golang.org/x/net/idna",
		"sshtunnel", "sshtunnel/mux", "sshtunnel/netwatch", "sshtunnel/refusals", "sshtunnel/sshconfig", "oauth", "oauth/procnet", "oauth/tokenstore",
		"cmd/sallyport/internal/agents", "cmd/sallyport/internal/cli", "cmd/sallyport/internal/environment",
		"cmd/sallyport/internal/helper", "cmd/sallyport/internal/roots", "cmd/sallyport/internal/share",
	},
	"cmd/sallyport/internal/callback": {
		"golang.org/x/net/idna", "sshtunnel", "oauth/loopback", "oauth/procnet",
		"cmd/sallyport/internal/environment", "cmd/sallyport/internal/helper", "cmd/sallyport/internal/localsock",
		"cmd/sallyport/internal/person", "cmd/sallyport/internal/session",
	},
	"cmd/sallyport/internal/explain": {
		"sshtunnel", "sshtunnel/hostkeys", "sshtunnel/sshconfig", "sshtunnel/userkeys", "oauth", "oauth/asclient", "relay",
		"cmd/sallyport/internal/callback", "cmd/sallyport/internal/cli", "cmd/sallyport/internal/control", "cmd/sallyport/internal/deploy",
		"cmd/sallyport/internal/helper", "cmd/sallyport/internal/install", "cmd/sallyport/internal/localsock", "cmd/sallyport/internal/service",
		"cmd/sallyport/internal/person", "cmd/sallyport/internal/session", "cmd/sallyport/internal/share",
	},
	"cmd/sallyport/internal/obstacle": {
		"sshtunnel", "oauth", "relay", "cmd/sallyport/internal/explain", "cmd/sallyport/internal/helper", "cmd/sallyport/internal/person",
	},
	"cmd/sallyport/internal/doctor": {
		"golang.org/x/crypto/ssh", "golang.org/x/sys", "sshtunnel", "sshtunnel/hostkeys", "sshtunnel/sshconfig", "sshtunnel/userkeys",
		"oauth", "oauth/asclient", "relay",
		"cmd/sallyport/internal/cli", "cmd/sallyport/internal/control", "cmd/sallyport/internal/environment", "cmd/sallyport/internal/explain",
		"cmd/sallyport/internal/helper", "cmd/sallyport/internal/install", "cmd/sallyport/internal/lazyregexp", "cmd/sallyport/internal/localsock",
		"cmd/sallyport/internal/person", "cmd/sallyport/internal/session", "cmd/sallyport/internal/share",
	},
	"cmd/sallyport/internal/command": {
		"gopkg.in/natefinch/lumberjack.v2", "sshtunnel", "sshtunnel/mux", "sshtunnel/sshconfig", "oauth", "oauth/tokenstore",
		"relay", "relay/pins", "cmd/internal/world", "cmd/sallyport/internal/agents", "cmd/sallyport/internal/audit", "cmd/sallyport/internal/callback",
		"cmd/sallyport/internal/cli", "cmd/sallyport/internal/control", "cmd/sallyport/internal/deploy",
		"cmd/sallyport/internal/doctor", "cmd/sallyport/internal/environment", "cmd/sallyport/internal/explain",
		"cmd/sallyport/internal/farbrowser", "cmd/sallyport/internal/helper", "cmd/sallyport/internal/hostio",
		"cmd/sallyport/internal/install",
		"cmd/sallyport/internal/localsock", "cmd/sallyport/internal/obstacle", "cmd/sallyport/internal/person",
		"cmd/sallyport/internal/service", "cmd/sallyport/internal/session", "cmd/sallyport/internal/share",
		"cmd/sallyport/internal/toolreport",
	},
	"cmd/sallyport": {"cmd/sallyport/internal/command", "cmd/sallyport/internal/environment", "cmd/sallyport/internal/hostio"},

	// What the demo and `sallyport try` show.
	"cmd/internal/world": {"golang.org/x/crypto/ssh", "sshtunnel/sshtest", "oauth/oauthtest"},
	"cmd/dist":           {"github.com/CycloneDX/cyclonedx-go"},
	"cmd/demo":           {"github.com/modelcontextprotocol/go-sdk", "cmd/internal/world", "oauth/oauthtest"},

	// For tests.
	"sshtunnel/sshtest":         {"golang.org/x/crypto/ssh", "golang.org/x/sys"},
	"sshtunnel/sshtest/openssh": {"golang.org/x/crypto/ssh", "sshtunnel/sshconfig"},
	"sshtunnel/sshtest/servers": {"github.com/gliderlabs/ssh", "golang.org/x/crypto/ssh", "sshtunnel/sshtest", "sshtunnel/sshtest/openssh"},
	"oauth/oauthtest":           {"github.com/go-jose/go-jose/v4"},
	"relay/relaytest":           {},
	"cmd/sallyport/internal/machines": {
		"github.com/creack/pty", "github.com/go-jose/go-jose/v4", "github.com/gofrs/flock", "github.com/modelcontextprotocol/go-sdk",
		"golang.org/x/crypto/ssh", "golang.org/x/sys", "oauth", "oauth/oauthtest", "oauth/tokenstore",
	},
}

// testPackages may be imported by tests, by each other, by cmd/demo and by cmd/internal/world.
var testPackages = []string{
	"sshtunnel/sshtest", "sshtunnel/sshtest/openssh", "sshtunnel/sshtest/servers", "oauth/oauthtest", "relay/relaytest", "cmd/sallyport/internal/machines",
}

const module = "sallyport/"

// listedPackage is a package as go list prints it.
type listedPackage struct {
	ImportPath                                  string
	GoFiles, Imports, TestImports, XTestImports []string
}

// listPackages returns the packages of this module as they are built for a system.
func listPackages(t *testing.T, goos string) []listedPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,GoFiles,Imports,TestImports,XTestImports", module+"...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var packages []listedPackage
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		packages = append(packages, p)
	}
}

// mayImport reports whether the table allows a package the import.
func mayImport(allowed []string, path string) bool {
	first, _, _ := strings.Cut(path, "/")
	ours, isOurs := strings.CutPrefix(path, module)
	if isOurs {
		return slices.Contains(allowed, ours)
	}
	return !strings.Contains(first, ".") ||
		slices.ContainsFunc(allowed, func(name string) bool { return path == name || strings.HasPrefix(path, name+"/") })
}

func TestImportRule(t *testing.T) {
	var missing []string
	for path := range allowedImports {
		missing = append(missing, path)
	}
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, p := range listPackages(t, goos) {
			if len(p.GoFiles) == 0 {
				continue // tests alone: a story, a benchmark
			}
			missing = slices.DeleteFunc(missing, func(path string) bool { return path == p.ImportPath })
			allowed, ok := allowedImports[p.ImportPath]
			if !ok {
				t.Errorf("package %s has no row in the table of imports", p.ImportPath)
			}
			for _, path := range p.Imports {
				if !mayImport(allowed, path) {
					t.Errorf("%s may not import %s", p.ImportPath, path)
				}
			}
		}
	}
	for _, path := range missing {
		t.Errorf("the table of imports has a row for %s, which is no package", path)
	}
}

// TestLibrariesDoNotMeetInTests shows that the tests of a library import no other library, and that
// only tests and the demo import what is made for tests.
func TestLibrariesDoNotMeetInTests(t *testing.T) {
	libraries := []string{"sshtunnel", "oauth", "relay"}
	libraryOf := func(path string) string {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, module), "/")
		if slices.Contains(libraries, first) {
			return first
		}
		return ""
	}
	for _, p := range listPackages(t, "linux") {
		library := libraryOf(p.ImportPath)
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if other := libraryOf(path); library != "" && (other != "" && other != library || strings.HasPrefix(path, module+"cmd/")) {
				t.Errorf("a test of %s imports %s", p.ImportPath, path)
			}
		}
		if slices.Contains([]string{"cmd/demo", "cmd/internal/world"}, p.ImportPath) || slices.Contains(testPackages, p.ImportPath) {
			continue
		}
		for _, path := range p.Imports {
			if slices.Contains(testPackages, strings.TrimPrefix(path, module)) {
				t.Errorf("%s imports %s, which is for tests", p.ImportPath, path)
			}
		}
	}
}

// TestProcessGlobals keeps what belongs to the process in the mains, which pass it on, and a bypass
// of host keys out of everything but tests.
func TestProcessGlobals(t *testing.T) {
	globals := map[string][]string{
		"os":  {"Exit", "Args", "Stdin", "Stdout", "Stderr", "Getenv", "LookupEnv", "Environ"},
		"ssh": {"InsecureIgnoreHostKey"},
		"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Default"},
	}
	mains := []string{"cmd/sallyport", "cmd/demo", "cmd/dist", "cmd/sallyport/internal/environment", "cmd/sallyport/internal/hostio"}
	for _, file := range sourceFiles(t) {
		if file.isTest || slices.Contains(mains, file.dir) || importsTesting(file.syntax) {
			continue
		}
		ast.Inspect(file.syntax, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && slices.Contains(globals[pkg.Name], sel.Sel.Name) {
				t.Errorf("%s: %s.%s belongs to the process: let a main pass it on", file.place(sel.Pos()), pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}

// importsTesting reports whether a file belongs to a library for tests, which no program links.
func importsTesting(file *ast.File) bool {
	return slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing"` })
}
