package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The sizes of the house. What is larger is cut, or stands in exceptions with a reason.
const (
	maxMethods     = 25  // of a type
	maxFields      = 15  // of a struct
	maxLines       = 60  // of a function
	maxParameters  = 5   // of a function
	maxFiles       = 26  // of a package, without tests
	maxCommentLine = 100 // columns of a line with nothing but a comment; a tab is four
)

// exceptions names what may be larger than the sizes above, and says why. The name is that which
// the test prints.
var exceptions = map[string]string{
	"sshtunnel/sshconfig.Host":              "each field is one keyword of ssh_config",
	"oauth/oauthtest.Knobs":                 "each field is one quirk of a server",
	"oauth/asclient.Server":                 "each field is one member of a metadata document (RFC 8414)",
	"oauth.Config":                          "each field is one setting or one group of settings",
	"sshtunnel/sshtest.Config":              "each field is one trait of a server",
	"cmd/sallyport/internal/helper.Message": "each field is one member of a message",
	"relay.Config":                          "each field is one setting of a session",
	"relay":                                 "the wires share the session's types; a package for each would have to export them",
}

// sourceFile is one Go file of this module.
type sourceFile struct {
	path   string // from the root of the module, with slashes
	dir    string
	isTest bool
	source string
	syntax *ast.File
	set    *token.FileSet
}

func (f sourceFile) place(pos token.Pos) string { return fmt.Sprintf("%s:%d", f.path, f.line(pos)) }
func (f sourceFile) line(pos token.Pos) int     { return f.set.Position(pos).Line }

// sourceFiles parses all Go files of this module.
func sourceFiles(t *testing.T) []sourceFile {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []sourceFile
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == "testdata" || path != root && strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, path, source, parser.ParseComments)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		dir, _, _ := strings.Cut(name, "/"+d.Name())
		files = append(files, sourceFile{path: name, dir: dir, isTest: strings.HasSuffix(name, "_test.go"), source: string(source), syntax: syntax, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("only %d files were found", len(files))
	}
	return files
}

// house collects what is too large.
type house struct {
	findings map[string]string // name -> what is wrong with it, and where
}

// check notes that what is found at place under name is larger than its limit.
func (h *house) check(name, place string, size, limit int, unit string) {
	if size > limit {
		h.findings[name] = fmt.Sprintf("%s: %s: %d %s, more than %d", place, name, size, unit, limit)
	}
}

// TestSizes keeps packages, types, functions and comment lines small enough to read.
func TestSizes(t *testing.T) {
	h := &house{findings: map[string]string{}}
	packages, methods, places := map[string]int{}, map[string]int{}, map[string]string{}
	for _, file := range sourceFiles(t) {
		h.checkComments(file)
		if file.isTest {
			continue
		}
		packages[file.dir]++
		for _, decl := range file.syntax.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				name := file.dir + "." + decl.Name.Name
				if receiver := receiverName(decl); receiver != "" {
					name = file.dir + "." + receiver + "." + decl.Name.Name
					methods[file.dir+"."+receiver]++
				}
				h.checkFunction(file, name, decl)
			case *ast.GenDecl:
				h.checkTypes(file, decl, places)
			}
		}
	}
	for name, n := range packages {
		h.check(name, "package", n, maxFiles, "files")
	}
	for name, n := range methods {
		h.check(name+" (methods)", places[name], n, maxMethods, "methods")
	}
	h.report(t)
}

// report fails for each finding that is no exception, and for each exception that is no finding.
func (h *house) report(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(h.findings)) {
		if exceptions[name] == "" {
			t.Errorf("%s; make it smaller, or say in exceptions why not", h.findings[name])
		}
	}
	for name := range exceptions {
		if _, ok := h.findings[name]; !ok {
			t.Errorf("%s is no exception any more: remove it", name)
		}
	}
}

// receiverName returns the name of the type that a method belongs to, and "" for a function.
func receiverName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	expr := f.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	switch generic := expr.(type) {
	case *ast.IndexExpr:
		expr = generic.X
	case *ast.IndexListExpr:
		expr = generic.X
	}
	if name, ok := expr.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

func (h *house) checkFunction(file sourceFile, name string, f *ast.FuncDecl) {
	place := file.place(f.Pos())
	h.check(name+" (parameters)", place, countNames(f.Type.Params), maxParameters, "parameters")
	if f.Body != nil {
		h.check(name, place, file.line(f.Body.Rbrace)-file.line(f.Pos())+1, maxLines, "lines")
	}
}

func (h *house) checkTypes(file sourceFile, decl *ast.GenDecl, places map[string]string) {
	for _, spec := range decl.Specs {
		spec, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		name, place := file.dir+"."+spec.Name.Name, file.place(spec.Pos())
		places[name] = place
		if s, ok := spec.Type.(*ast.StructType); ok {
			h.check(name, place, countNames(s.Fields), maxFields, "fields")
		}
	}
}

// countNames counts the fields of a struct, or the parameters of a function. An embedded field
// counts as one, and so does a parameter without a name.
func countNames(list *ast.FieldList) int {
	n := 0
	for _, field := range list.List {
		n += max(1, len(field.Names))
	}
	return n
}

// checkComments finds comments that are wider than the limit. Those that stand after code, and
// directives, may be wider.
func (h *house) checkComments(file sourceFile) {
	for _, group := range file.syntax.Comments {
		for _, comment := range group.List {
			position := file.set.Position(comment.Pos())
			before := file.source[position.Offset-position.Column+1 : position.Offset]
			if strings.Trim(before, "\t") != "" || strings.HasPrefix(comment.Text, "//go:") || strings.HasPrefix(comment.Text, "//lint:") {
				continue
			}
			name := fmt.Sprintf("%s:%d", file.path, position.Line)
			h.check(name, "comment", 4*len(before)+utf8.RuneCountInString(comment.Text), maxCommentLine, "columns")
		}
	}
}
