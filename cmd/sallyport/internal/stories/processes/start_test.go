//go:build linux

package processes_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/machines"
)

// What the packages allocate before main is in each of thirty proxies, used or not.
func TestInitialisationAllocatesLittle(t *testing.T) {
	t.Parallel()
	const limit = 256 << 10 // 233 KB when this was written
	cmd := exec.Command(machines.PlainSallyport(t), "--version")
	cmd.Env = append(machines.Environment(), "GODEBUG=inittrace=1")
	trace, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, trace)
	}
	type allocated struct {
		pkg   string
		bytes int
	}
	var all []allocated
	total := 0
	for _, line := range regexp.MustCompile(`(?m)^init (\S+) .* (\d+) bytes, `).FindAllStringSubmatch(string(trace), -1) {
		bytes, _ := strconv.Atoi(line[2])
		all, total = append(all, allocated{line[1], bytes}), total+bytes
	}
	if len(all) < 50 {
		t.Fatalf("%d packages in %s", len(all), trace)
	}
	if total > limit {
		slices.SortFunc(all, func(a, b allocated) int { return b.bytes - a.bytes })
		t.Errorf("the packages allocate %d bytes, more than %d. Make what is new on demand: sync.OnceValue, lazyregexp. Most:", total, limit)
		for _, a := range all[:10] {
			t.Errorf("%7d %s", a.bytes, strings.TrimPrefix(a.pkg, "sallyport/"))
		}
	}
}
