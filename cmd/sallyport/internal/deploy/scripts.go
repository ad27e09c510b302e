package deploy

import (
	"fmt"
	"strings"
)

// mark begins each line of a result.
const mark = "sallyport-deploy "

// lookScript prints the platform, the home directory, and each sallyport in the places where one
// may be: "found PATH HASH WORDS", with - for an unknown hash. The words are what it prints of its
// version.
const lookScript = `sh -c '
LC_ALL=C; export LC_ALL
echo "` + mark + `platform $(uname -s) $(uname -m)"
echo "` + mark + `home $HOME"
sum() { { sha256sum "$1" || shasum -a 256 "$1" || echo -; } 2>/dev/null | { read h rest; echo "${h#\\}"; }; }
for p in "$HOME/.local/bin/sallyport" "$(command -v sallyport)"; do
  if [ -f "$p" ] && [ -x "$p" ]; then
    echo "` + mark + `found $(sum "$p") $("$p" version </dev/null 2>/dev/null | head -n 1) $p"
  fi
done
exit 0'`

// writeScript takes the number of bytes and their hash. It prints "done", or "failed WORDS".
func writeScript(size int64, hash string) string {
	return fmt.Sprintf(`sh -c '
LC_ALL=C; export LC_ALL
umask 022
fail() { echo "`+mark+`failed $*"; exit 1; }
d="$HOME/.local/bin"
t="$d/.sallyport-deploy.$$"
mkdir -p "$d" 2>&1 || fail "$d cannot be made"
[ ! -d "$d/sallyport" ] || fail "$d/sallyport is a directory"
find "$d" -name ".sallyport-deploy.*" -mtime +0 -exec rm -f {} \; 2>/dev/null
trap "rm -f \"\$t\"" 0
trap "exit 1" 1 2 13 15
head -c %d >"$t" || fail "$t cannot be written: is the disk full?"
n=$(wc -c <"$t")
[ "$n" -eq %d ] || fail "only $n of %d bytes arrived"
h=$({ sha256sum "$t" || shasum -a 256 "$t"; } 2>/dev/null | { read h rest; echo "${h#\\}"; })
[ -z "$h" ] || [ "$h" = %s ] || fail "the bytes that arrived are not those that were sent"
chmod 755 "$t" || fail "$t cannot be made executable"
v=$("$t" version </dev/null 2>&1) || fail "it does not run there: $v"
mv -f "$t" "$d/sallyport" || fail "$d/sallyport cannot be replaced"
echo "`+mark+`done"'`, size, size, size, hash)
}

// pathsScript prints "shell PATH": where the login shell finds sallyport. It is nothing if the
// shell does not find it, or is none that knows these options.
const pathsScript = `sh -c '
p=$("${SHELL:-/bin/sh}" -lc "command -v sallyport" </dev/null 2>/dev/null | tail -n 1)
echo "` + mark + `shell $p"'`

// results returns the marked lines of an output, without the mark.
func results(output string) []string {
	var list []string
	for line := range strings.Lines(output) {
		if _, result, ok := strings.Cut(line, mark); ok {
			list = append(list, strings.TrimSpace(result))
		}
	}
	return list
}

// valueOf returns what follows the first result of a name.
func valueOf(lines []string, name string) (string, bool) {
	for _, line := range lines {
		if first, rest, _ := strings.Cut(line, " "); first == name {
			return rest, true
		}
	}
	return "", false
}
