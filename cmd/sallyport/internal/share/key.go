package share

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"unicode"

	"sallyport/sshtunnel/mux"
	"sallyport/sshtunnel/sshconfig"
)

// keyLength is how many hexadecimal digits a key has. The path of a socket holds about 100 bytes.
const keyLength = 16

// notInKey names the fields of sshconfig.Host that have no part in the key of a way, and says why.
// All others have.
var notInKey = map[string]string{
	"Alias":             "it is a name in messages; what its tokens became is in the other fields",
	"ProxyJump":         "the hops are in the chain, each with its own fields",
	"KnownHostsCommand": "it counts with its tokens expanded",
	"HashKnownHosts":    "it says how a new line is written, and decides nothing",
	"settings":          "the fields are made of them",
	"named":             "it says which lines matched, and not what they set",
	"tokens":            "KnownHostsCommand alone expands any later, and counts with them expanded",
}

// way is one way to a host: all that decides how it is reached, trusted and signed in at. Processes
// with equal ways share a connection.
type way struct {
	// chain is what was resolved, with absolute paths.
	chain []*sshconfig.Host
	// environ is the environment of the share, which its commands inherit.
	environ []string
	// counts says which variables of environ are in the key. Others change only words and places of
	// temporary files.
	counts func(name string) bool
	// controlMaster is the value of --control-master.
	controlMaster string
	// place is where this process runs: a machine and a network.
	place string
}

// key names the way. It is the same in all processes of this version of the protocol.
func (w way) key() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "mux %d\nplace %q\ncontrol-master %q\n", mux.Version, w.place, w.controlMaster)
	for _, h := range w.chain {
		fmt.Fprintln(sum, "hop")
		addHost(sum, h)
	}
	for _, variable := range w.environ { // sorted
		if name, _, _ := strings.Cut(variable, "="); w.counts(name) {
			fmt.Fprintf(sum, "variable %q\n", foldName(name)+strings.TrimPrefix(variable, name))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:keyLength]
}

// addHost adds the fields of one hop. A zero value is left out, so that a new field changes no key
// of those who do not use it. The form %#v tells a missing list from an empty one.
func addHost(sum hash.Hash, h *sshconfig.Host) {
	for field, value := range reflect.ValueOf(h).Elem().Fields() {
		if notInKey[field.Name] == "" && !value.IsZero() {
			fmt.Fprintf(sum, "%s %#v\n", field.Name, value.Interface())
		}
	}
	if h.KnownHostsCommand != "" {
		// The tokens that the connection itself will fill in stand for themselves.
		later := map[byte]string{'H': "%H", 'I': "%I", 'K': "%K", 'f': "%f", 't': "%t"}
		expanded, err := h.ExpandTokens(h.KnownHostsCommand, later, nil)
		fmt.Fprintf(sum, "KnownHostsCommand %q %v\n", expanded, err)
		if err != nil { // whatever an unknown token may come to mean
			fmt.Fprintf(sum, "of %q by %q\n", h.KnownHostsCommand, h.Alias)
		}
	}
}

// absolute returns h with absolute paths, for a process with another working directory than dir.
func absolute(h *sshconfig.Host, dir string) *sshconfig.Host {
	out := *h
	out.IdentityFiles, out.CertificateFiles = allUnder(dir, h.IdentityFiles), allUnder(dir, h.CertificateFiles)
	out.UserKnownHostsFiles, out.GlobalKnownHostsFiles = allUnder(dir, h.UserKnownHostsFiles), allUnder(dir, h.GlobalKnownHostsFiles)
	out.RevokedHostKeyFiles, out.ControlPath = allUnder(dir, h.RevokedHostKeyFiles), under(dir, h.ControlPath)
	if agent := h.IdentityAgent; !strings.EqualFold(agent, "none") && agent != agentVariable {
		out.IdentityAgent = under(dir, agent)
	}
	return &out
}

// under returns a path as an absolute one. An empty path stays empty.
func under(dir, path string) string {
	switch {
	case path == "" || dir == "" || filepath.IsAbs(path):
		return path
	case os.IsPathSeparator(path[0]) || filepath.VolumeName(path) != "": // on Windows, \x or C:x
		if whole, err := filepath.Abs(path); err == nil {
			return whole
		}
		return path
	}
	return filepath.Join(dir, path)
}

// allUnder is under for several paths.
func allUnder(dir string, paths []string) []string {
	out := slices.Clone(paths)
	for i := range out {
		out[i] = under(dir, out[i])
	}
	return out
}

// needsDir reports whether a command of a hop may depend on the working directory, which is not
// that of the process that asks for the connection: it says so, or a word of it, but for the name
// of the program, is a file there.
func needsDir(chain []*sshconfig.Host) bool {
	return slices.ContainsFunc(chain, func(h *sshconfig.Host) bool {
		command := h.ProxyCommand
		if strings.Contains(command, "./") || strings.Contains(command, "PWD") ||
			runtime.GOOS == "windows" && (strings.Contains(command, `.\`) || strings.Contains(strings.ToUpper(command), "%CD%")) {
			return true
		}
		words := strings.FieldsFunc(command, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune("\"'=<>|;&()`", c) })
		return slices.ContainsFunc(words[min(1, len(words)):], isRelativeFile)
	})
}

// isRelativeFile reports whether a path is that of a file below the working directory.
func isRelativeFile(path string) bool {
	if filepath.IsAbs(path) || path == "" {
		return false
	}
	_, err := os.Lstat(path)
	return err == nil
}
