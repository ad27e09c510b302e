//go:build !windows

package userkeys

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/sshconfig"
	"sallyport/sshtunnel/sshtest"
)

// agentSocket listens where an agent would, and hands each connection to serve.
func agentSocket(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// answering answers each request with what reply makes of its type.
func answering(reply func(request byte) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			var head [4]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(conn, body); err != nil {
				return
			}
			answer := reply(body[0])
			if answer == nil {
				return
			}
			conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...))
		}
	}
}

func open(t *testing.T, path string) *Agent {
	t.Helper()
	a, err := OpenAgent(t.Context(), &sshconfig.Host{IdentityAgent: path, PubkeyAuthentication: true}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// Each way in which an agent fails has its words, and none holds us for long.
func TestAgentFaults(t *testing.T) {
	t.Parallel()
	const list, sign, extension = 11, 13, 27
	pub := sshtest.NewKey().PublicKey()
	listed := append([]byte{12}, ssh.Marshal(struct {
		N             uint32
		Blob, Comment string
	}{1, string(pub.Marshal()), "key"})...)
	ok := func(except byte, with []byte) func(net.Conn) {
		return answering(func(request byte) []byte {
			switch {
			case request == except:
				return with
			case request == list:
				return listed
			}
			return []byte{6} // SSH_AGENT_SUCCESS
		})
	}
	hang := func(request byte) func(net.Conn) {
		return func(conn net.Conn) {
			answering(func(r byte) []byte {
				if r == request {
					io.Copy(io.Discard, conn)
					return nil
				}
				if r == list {
					return listed
				}
				return []byte{5}
			})(conn)
		}
	}
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
		fault AgentFault // of the list; 0 is none
		sign  AgentFault
		keys  int
		words string
	}{
		{"good", ok(0, nil), 0, AgentGarbled, 1, "its answer is not that of an agent"}, // success is no signature
		{"list refused", ok(list, []byte{5}), AgentRefused, 0, 0, "it refused to list its keys"},
		{"list refused as by an old one", ok(list, []byte{30}), AgentRefused, 0, 0, "it refused to list its keys"},
		{"list of garbage", ok(list, []byte("\x0c\x00\x00\x00\x05garbage")), AgentGarbled, 0, 0, "its answer is not that of an agent"},
		{"too many", ok(list, []byte("\x0c\xff\xff\xff\xff")), AgentGarbled, 0, 0, "its answer is not that of an agent"},
		{"another program", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, AgentGarbled, 0, 0, "its answer is not that of an agent"},
		{"closes", func(net.Conn) {}, AgentEnded, 0, 0, "it closed the connection"},
		{"closes at the list", ok(list, nil), AgentEnded, 0, 0, "it closed the connection"},
		{"empty message", ok(list, []byte{}), AgentGarbled, 0, 0, "its answer is not that of an agent"},
		{"extension fails", ok(extension, []byte{28}), 0, AgentGarbled, 1, ""},
		{"extension unknown", ok(extension, []byte{5}), 0, AgentGarbled, 1, ""},
		{"signature refused", ok(sign, []byte{5}), 0, AgentRefused, 1, "limited to other hosts (ssh-add -h)"},
		{"signature of garbage", ok(sign, []byte("\x0e\x00\x00\x00\x02xx")), 0, AgentGarbled, 1, "its answer is not that of an agent"},
		{"closes at the signature", ok(sign, nil), 0, AgentEnded, 1, "it closed the connection"},
		{"silent", hang(list), AgentSilent, 0, 0, "it does not answer"},
		{"silent at the binding", hang(extension), AgentSilent, 0, 0, "it does not answer"},
		{"silent at the signature", hang(sign), 0, AgentSilent, 1, "it does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := open(t, agentSocket(t, tt.serve))
			a.patience, a.signPatience = 200*time.Millisecond, 200*time.Millisecond
			a.Bind(Binding{})
			var r report
			c := r.config(host(), "")
			c.Agent = a
			var listErr error
			c.AgentFailed = func(err error) { listErr = err }
			keys := Collect(c)
			checkFault(t, "list", listErr, tt.fault, tt.words)
			if len(keys) != tt.keys {
				t.Fatalf("%d keys", len(keys))
			}
			if len(keys) == 0 {
				return
			}
			if _, err := keys[0].Signer.Sign(nil, []byte("data")); !errors.Is(r.failed, err) {
				t.Errorf("told %v, want %v", r.failed, err)
			}
			checkFault(t, "sign", r.failed, tt.sign, tt.words)
		})
	}
}

func checkFault(t *testing.T, what string, err error, want AgentFault, words string) {
	t.Helper()
	if want == 0 {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	e, ok := errors.AsType[*AgentError](err)
	if !ok || e.Fault != want || !strings.Contains(err.Error(), words) || e.Path == "" {
		t.Errorf("%s: got %#v, %v; want fault %d, %q", what, e, err, want, words)
	}
}

// The ways in which there is nobody to talk to.
func TestAgentIsNotThere(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	stale := filepath.Join(dir, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for _, tt := range []struct {
		path  string
		fault AgentFault
		words string
	}{
		{stale, AgentGone, "nobody listens there any more"},
		{filepath.Join(dir, "missing"), AgentGone, "nobody listens there any more"},
		{file, AgentGone, ""}, // connect says "connection refused" of any file
		{dir + strings.Repeat("x", 200), AgentUnreachable, "invalid argument"},
	} {
		for _, env := range []bool{true, false} {
			h := &sshconfig.Host{IdentityAgent: tt.path, PubkeyAuthentication: true}
			if env {
				h.IdentityAgent = ""
			}
			_, err := OpenAgent(t.Context(), h, func(string) string { return tt.path })
			e, ok := errors.AsType[*AgentError](err)
			if !ok || e.Fault != tt.fault || e.FromEnvironment != env || e.Path != tt.path || !strings.Contains(err.Error(), tt.words) {
				t.Errorf("%s: got %+v, %v", tt.path, e, err)
			}
		}
	}
	for _, h := range []*sshconfig.Host{
		{IdentityAgent: "none", PubkeyAuthentication: true}, {IdentityAgent: "NONE", PubkeyAuthentication: true}, {PubkeyAuthentication: true}, {IdentityAgent: stale},
	} {
		if a, err := OpenAgent(t.Context(), h, func(string) string { return "" }); a != nil || err != nil {
			t.Errorf("%+v: got %v, %v", h.IdentityAgent, a, err)
		}
	}
}

// An agent with very many keys, some of types that we do not know, is no trouble. A locked one
// shows none.
func TestAgentWithManyKeys(t *testing.T) {
	t.Parallel()
	keyring := agent.NewKeyring()
	for i := range 1000 {
		if err := keyring.Add(agent.AddedKey{PrivateKey: rawKey(t), Comment: fmt.Sprint("key ", i)}); err != nil {
			t.Fatal(err)
		}
	}
	strange := strangeAgent{keyring}
	a := open(t, agentSocket(t, func(c net.Conn) { agent.ServeAgent(strange, c) }))
	var r report
	c := r.config(host(), "")
	c.Agent = a
	keys := Collect(c)
	if all := strings.Join(r.notes, "; "); len(keys) != 1000 || !strings.Contains(all, "agent: pq: a composite ML-DSA key") || !strings.Contains(all, `"ssh-new@example.org", which is not known`) {
		t.Errorf("%d keys, %q", len(keys), all)
	}
	if _, err := keys[999].Signer.Sign(nil, []byte("data")); err != nil {
		t.Error(err)
	}
	keyring.Lock([]byte("secret"))
	r = report{}
	c = r.config(host(), "")
	c.Agent = open(t, agentSocket(t, func(c net.Conn) { agent.ServeAgent(keyring, c) }))
	if keys := Collect(c); len(keys) > 0 || !strings.Contains(strings.Join(r.notes, ""), "locked (ssh-add -X unlocks it)") {
		t.Errorf("locked: %d keys, %q", len(keys), r.notes)
	}
}

func rawKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// strangeAgent also has keys of types that nobody knows.
type strangeAgent struct{ agent.Agent }

func (a strangeAgent) List() ([]*agent.Key, error) {
	keys, err := a.Agent.List()
	for _, k := range []struct{ typ, comment string }{{"ssh-mldsa44-ed25519", "pq"}, {"ssh-new@example.org", "new"}} {
		blob := ssh.Marshal(struct{ Type, Key string }{k.typ, "x"})
		keys = append([]*agent.Key{{Format: k.typ, Blob: blob, Comment: k.comment}}, keys...)
	}
	return keys, err
}

// The binding comes before the list, and once.
func TestBindComesBeforeTheList(t *testing.T) {
	t.Parallel()
	var order []byte
	a := open(t, agentSocket(t, answering(func(request byte) []byte {
		order = append(order, request)
		if request == 27 {
			return []byte{6}
		}
		return []byte("\x0c\x00\x00\x00\x00")
	})))
	a.Bind(Binding{HostKey: []byte("k"), Session: []byte("s"), Signature: []byte("x")})
	if _, err := a.list(); err != nil || string(order) != "\x1b\x0b" {
		t.Errorf("%v, requests %d", err, order)
	}
	var none *Agent
	none.Bind(Binding{})
	none.Close()
}

// The type of the latest message is known, however the bytes come.
func FuzzAgentConn(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x05\x00\x00\x00\x00\x00\x00\x00\x02\x06x"), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff\x0c"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		want := uint32(0)
		for rest := b; len(rest) >= 4; {
			length := uint64(binary.BigEndian.Uint32(rest))
			rest = rest[4:]
			switch {
			case length == 0:
				want = 0
			case len(rest) > 0:
				want = uint32(rest[0])
			}
			rest = rest[min(uint64(len(rest)), length):]
		}
		near, far := net.Pipe()
		go func() { // ends when all is read
			far.Write(b)
			far.Close()
		}()
		c := &agentConn{Conn: near}
		if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, int(size)+1)); err != nil {
			t.Fatal(err)
		}
		if got := c.answer.Load(); got != want || !c.ended.Load() {
			t.Errorf("type %d, want %d", got, want)
		}
	})
}
