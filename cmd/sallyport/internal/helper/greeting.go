package helper

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

const (
	// greetingMark begins the first line that a far end prints. A login shell may print something
	// before it, even without a newline.
	greetingMark = "sallyport-far-end "
	// maxGreeting is how many bytes are read while a greeting is awaited.
	maxGreeting = 64 << 10
)

// greeting is what a far end says of itself.
type greeting struct {
	// Protocol is Version, or 0 if no sallyport was found.
	Protocol int `json:"protocol"`
	// Version is that of the program.
	Version string `json:"version,omitempty"`
	// Program is its file.
	Program string `json:"program,omitempty"`
	// Socket is the path of its socket.
	Socket string `json:"socket,omitempty"`
	// Error says why it has no socket.
	Error string `json:"error,omitempty"`
	// System is what uname -sm prints, if no sallyport that runs was found. Then Program is one
	// that does not run, if there is one, and Status its exit status.
	System string `json:"system,omitempty"`
	Status int    `json:"status,omitempty"`
}

// errNoGreeting says that a command ran which is not ours: HOST forces another one, or its shell
// refuses.
var errNoGreeting = errors.New("another command runs in its place")

// write prints the greeting.
func (g greeting) write(w io.Writer) error {
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, greetingMark+string(text)+"\n")
	return err
}

// readGreeting reads up to the greeting. It skips what stands before it. The error is errNoGreeting
// after too many bytes, or that of the reader.
func readGreeting(r *bufio.Reader) (greeting, error) {
	var g greeting
	for read := 0; read < maxGreeting; {
		line, err := r.ReadSlice('\n')
		read += len(line)
		if _, text, found := bytes.Cut(line, []byte(greetingMark)); found && err == nil {
			if json.Unmarshal(text, &g) == nil {
				g.Version, g.System = plainName(g.Version, ""), plainName(g.System, " ")
				return g, nil
			}
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return g, err
		}
	}
	return g, errNoGreeting
}

// maxName is the most bytes of a version or of the name of a system.
const maxName = 60

// plainName returns a name that HOST says, or nothing if it has other characters than such names
// and those of more: a line for the person shows it, and it must not go on with words of its own.
func plainName(name, more string) string {
	for _, c := range []byte(name) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !letter && !strings.Contains("._+-"+more, string(rune(c))) {
			return ""
		}
	}
	if len(name) > maxName {
		return ""
	}
	return name
}

// places are where a sallyport may lie on HOST. The first one is looked up in PATH, which is short
// in a command of SSH.
var places = []string{
	"sallyport", "$HOME/.local/bin/sallyport", "$HOME/bin/sallyport", "$HOME/go/bin/sallyport", "/usr/local/bin/sallyport",
	"/opt/sallyport/bin/sallyport", "/opt/homebrew/bin/sallyport", "/home/linuxbrew/.linuxbrew/bin/sallyport", "/snap/bin/sallyport",
}

// farCommand returns the command that runs sallyport on HOST with the given words, wherever it lies
// there. One that does not run is passed over: it may be built for another machine, or lie where
// nothing may be executed. The command prints a greeting if there is none that runs. It names sh,
// because the login shell may be of another kind, and has no character within its quotes that such
// a shell would read in its own way.
func farCommand(words string) string {
	var list strings.Builder
	for _, place := range places {
		list.WriteString(` "` + place + `"`)
	}
	return `sh -c 'b=; s=0; for p in` + list.String() + `; do ` +
		`x=$(command -v "$p" 2>/dev/null) || case "$p" in /*) x=$p;; *) continue;; esac; [ -f "$x" ] || continue; ` +
		`"$x" version </dev/null >/dev/null 2>&1 && exec "$x" ` + words + `; r=$?; [ -n "$b" ] || { b=$x; s=$r; }; done; ` +
		`printf "%s{\"protocol\":0,\"program\":\"%s\",\"status\":%s,\"system\":\"%s\"}\n" "` + greetingMark + `" "$b" "$s" "$(uname -sm)"'`
}
