package sshtunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/cleartext"
	"sallyport/sshtunnel/hostkeys"
	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/userkeys"
)

// ownErrors are an error of each type of this package and of those below it.
func ownErrors() []error {
	return []error{
		&HopError{}, &TimeoutError{}, &SilentError{}, &AuthError{}, &OpenError{}, &ListenError{}, &ExitError{},
		&AlgorithmError{}, &cleartext.IdentificationError{}, &ProxyCommandError{},
		&userkeys.AgentError{}, &hostkeys.Error{}, &sshconfig.Error{},
	}
}

// filler sets fields to values that are all different.
type filler struct{ n int }

func (f *filler) fill(t *testing.T, v reflect.Value, name string) {
	f.n++
	switch {
	case v.Type() == reflect.TypeFor[error]():
		v.Set(reflect.ValueOf(&ExitError{Status: f.n}))
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2030, 1, 2, 3, 4, f.n, 5, time.UTC)))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(t, v.Elem(), name)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				f.fill(t, v.Field(i), field.Name)
			}
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(t, v.Index(0), name)
		f.fill(t, v.Index(1), name)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("%s-%d", name, f.n))
	case v.CanInt():
		v.SetInt(int64(f.n))
	case v.CanUint():
		v.SetUint(uint64(f.n))
	default:
		t.Fatalf("field %s has the type %v, which the test cannot fill", name, v.Type())
	}
}

// travelled returns what becomes of an error on its way through a line of JSON.
func travelled(t testing.TB, err error, server, client []string) error {
	t.Helper()
	line, jsonErr := json.Marshal(EncodeError(err, server))
	if jsonErr != nil {
		t.Fatal(jsonErr)
	}
	var e mux.Error
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatal(err)
	}
	return DecodeError(&e, client)
}

func TestEveryFieldOfAnErrorTravels(t *testing.T) {
	for _, err := range ownErrors() {
		v := reflect.ValueOf(err).Elem()
		(&filler{}).fill(t, v, "")
		hop, hops := v.FieldByName("Hop"), []string(nil)
		if hop.IsValid() {
			hops = []string{"another", hop.String()}
		}
		if got := travelled(t, err, hops, hops); !reflect.DeepEqual(got, err) || got.Error() != err.Error() {
			t.Errorf("got  %#v\nwant %#v", got, err)
		}
		if !hop.IsValid() {
			continue
		}
		got := travelled(t, err, hops, []string{"a", "b"})
		if theirs := reflect.ValueOf(got).Elem().FieldByName("Hop").String(); theirs != "b" {
			t.Errorf("%T: the hop is %q", err, theirs)
		}
		hop.SetString("b")
		if !reflect.DeepEqual(got, err) {
			t.Errorf("got  %#v\nwant %#v", got, err)
		}
	}
}

// Without its fields an error is as short as it can be, and is still the same.
func TestEmptyErrorsTravel(t *testing.T) {
	for _, err := range ownErrors() {
		if got := travelled(t, err, nil, nil); !reflect.DeepEqual(got, err) {
			t.Errorf("got  %#v\nwant %#v", got, err)
		}
	}
}

// exportedErrors returns the exported types of a directory's package that have the method Error.
func exportedErrors(t *testing.T, dir string) (types []string) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range syntax.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv == nil || f.Name.Name != "Error" {
				continue
			}
			of := f.Recv.List[0].Type
			if pointer, ok := of.(*ast.StarExpr); ok {
				of = pointer.X
			}
			if name, ok := of.(*ast.Ident); ok && name.IsExported() {
				types = append(types, syntax.Name.Name+"."+name.Name)
			}
		}
	}
	return types
}

// A new type of error cannot be forgotten.
func TestEveryTypeOfErrorTravels(t *testing.T) {
	var known []string
	for _, err := range ownErrors() {
		known = append(known, strings.TrimPrefix(reflect.TypeOf(err).String(), "*"))
		if EncodeError(err, nil).Type == "" {
			t.Errorf("%T has no name in the protocol", err)
		}
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found, dirs := 0, []string{"."}
	for _, e := range entries {
		// The protocol itself, and what only tests import, need not travel.
		if e.IsDir() && e.Name() != "mux" && e.Name() != "sshtest" {
			dirs = append(dirs, e.Name())
		}
	}
	for _, dir := range dirs {
		for _, name := range exportedErrors(t, dir) {
			found++
			if !slices.Contains(known, name) {
				t.Errorf("the error %s is not in the table of this test", name)
			}
		}
	}
	if found != len(known) {
		t.Errorf("found %d types, know %d", found, len(known))
	}
}

// The hints of explain, the loop of a tunnel and its hops ask errors these questions.
func TestCausesTravel(t *testing.T) {
	wrap := func(err error) error {
		return &HopError{Hop: "h", Stage: StageLink, Err: fmt.Errorf("a: %w", errors.Join(errors.New("b"), err))}
	}
	for _, want := range []error{
		ErrNoPerson, ErrClosed, net.ErrClosed, errLost, errAbandoned, ssh.ErrNoAuth,
		context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, os.ErrDeadlineExceeded, fs.ErrNotExist,
	} {
		for _, err := range []error{want, wrap(want), oneLine([]error{want, io.ErrNoProgress})} {
			got := travelled(t, err, nil, nil)
			if !errors.Is(got, want) || got.Error() != err.Error() || errors.Is(got, ErrClosed) != errors.Is(err, ErrClosed) {
				t.Errorf("got %#v, want %v", got, err)
			}
		}
	}
	for _, err := range []error{
		&ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "no"},
		&ssh.AlgorithmNegotiationError{What: "cipher", RequestedAlgorithms: []string{"a"}, SupportedAlgorithms: []string{"b"}},
		&ssh.BannerError{Err: io.EOF, Message: "c"},
		&ssh.ExitMissingError{},
	} {
		if got := travelled(t, err, nil, nil); !reflect.DeepEqual(got, err) {
			t.Errorf("got %#v, want %#v", got, err)
		}
	}
	for _, err := range ownErrors() {
		got := travelled(t, wrap(err), nil, nil)
		if phaseOf(got) != phaseOf(wrap(err)) || hopOf(got) != "h" || got.Error() != wrap(err).Error() {
			t.Errorf("%T: got %v, phase %s", err, got, phaseOf(got))
		}
	}
}

// FuzzDecodeError shows that whatever a server sends makes an error that can be used.
func FuzzDecodeError(f *testing.F) {
	dial := &net.OpError{Op: "dial", Net: "tcp", Addr: addr{"tcp", "a:1"}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	for _, err := range append(ownErrors(), dial, errors.Join(io.EOF, &AuthError{Agent: &userkeys.AgentError{Err: dial}}), ErrClosed) {
		line, jsonErr := json.Marshal(EncodeError(err, nil))
		if jsonErr != nil {
			f.Fatal(jsonErr)
		}
		f.Add(line)
	}
	for _, line := range []string{
		`null`, `{}`, `{"type":"hop","hop":9,"causes":[null]}`, `{"type":"net_op","fields":{"addr":{"net":"tcp","text":"x"}}}`,
		`{"type":"auth","fields":{"agent":{"fault":-1}},"causes":[null,{"type":"auth"}]}`, `{"type":"auth","fields":null}`,
		`{"type":"host_key","fields":{"revoked":true,"changed":true,"known":[]}}`, `{"type":"host_key","fields":{"known":[null]}}`,
		`{"type":"silent","fields":{"after":-9223372036854775808}}`, `{"type":"path","causes":[]}`, `{"type":"errno","fields":{"name":"E"}}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var e *mux.Error
		if json.Unmarshal(line, &e) != nil || e == nil {
			return
		}
		err := DecodeError(e, []string{"a"})
		if err == nil {
			t.Fatal("no error")
		}
		text := err.Error()
		errors.Is(err, syscall.ECONNREFUSED)
		if n, ok := errors.AsType[net.Error](err); ok {
			n.Timeout()
		}
		if p, ok := errors.AsType[*ProxyCommandError](err); ok {
			p.NotFound()
		}
		if k, ok := errors.AsType[*hostkeys.Error](err); ok {
			k.Remedy()
		}
		phaseOf(err)
		if again := travelled(t, err, nil, nil); len(text) < 1000 && again == nil {
			t.Errorf("%q does not travel", text)
		}
	})
}

// Who writes another client finds each type and each field in the comment of mux.Error.
func TestErrorsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("mux/error.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(source), "type Error struct")
	words := strings.FieldsFunc(doc, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })
	documented := func(name string) {
		if !slices.Contains(words, name) {
			t.Errorf("%s is not in the comment of mux.Error", name)
		}
	}
	for name := range wireErrors.Sentinels {
		documented(name)
	}
	for _, err := range ownErrors() {
		(&filler{}).fill(t, reflect.ValueOf(err).Elem(), "")
		e := EncodeError(err, nil)
		documented(e.Type)
		var fields map[string]any
		if err := json.Unmarshal(e.Fields, &fields); err != nil {
			t.Fatal(err)
		}
		for name := range fields {
			documented(name)
		}
	}
}
