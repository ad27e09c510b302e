//go:build linux

// The stories of peers that want our memory or our time. Each peer of the proxy in turn sends what
// costs it little and might cost us much, and the peak of the resident memory of the real command
// is compared with what it was given.
package hostile_test

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/cmd/sallyport/internal/machines"
)

func TestMain(m *testing.M) {
	machines.AfterAll(printTable)
	machines.Main(m)
}

const (
	mib = 1 << 20
	// base and factor are the promise: the peak resident size stays below base + factor x the bytes
	// that were let in.
	base, factor = 64 * mib, 4
	// maxMessage is the documented limit of one message.
	maxMessage = 64 * mib
	// patience bounds every wait. It is no assertion on speed.
	patience = 3 * time.Minute
)

// line is the beginning of one line of the proxy, and how long the line was.
type line struct {
	head string
	size int64
}

// host is a proxy under a host that keeps nothing of what it reads.
type host struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *os.File
	out io.ReadCloser
	// exited is closed when the proxy has ended.
	exited chan struct{}

	mu     sync.Mutex
	stderr []byte
	peak   int64
	began  time.Time
	// answers are the first answers to each request, by its raw id. news is closed and replaced
	// when one comes, and ended says that no more will.
	answers map[string]line
	news    chan struct{}
	ended   bool
}

// start starts the real command. A host that is deaf never reads its output.
func start(t *testing.T, deaf bool, args ...string) *host {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(machines.PlainSallyport(t), args...)
	cmd.Dir = home
	cmd.Env = append(machines.Environment(), "HOME="+home)
	return startCommand(t, cmd, deaf)
}

func startCommand(t *testing.T, cmd *exec.Cmd, deaf bool) *host {
	t.Helper()
	h := &host{t: t, cmd: cmd, answers: map[string]line{}, news: make(chan struct{}), exited: make(chan struct{}), began: time.Now()}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, writer(h.noteStderr)
	h.in, h.out = in, out
	machines.OwnGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	go h.watch() // ends with the proxy
	go func() {  // ends with the proxy
		cmd.Wait()
		close(h.exited)
	}()
	if !deaf {
		go h.read() // ends with the proxy
	}
	t.Cleanup(func() {
		in.Close()
		select {
		case <-h.exited:
		default:
			cmd.Process.Kill()
		}
		<-h.exited
		out.Close()
	})
	return h
}

type writer func(p []byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }

// noteStderr keeps the beginning of what the proxy writes to stderr.
func (h *host) noteStderr(p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.stderr) < 16<<10 {
		h.stderr = append(h.stderr, p...)
	}
}

func (h *host) err() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.stderr)
}

// watch notes the peak of the resident memory until the proxy has ended.
func (h *host) watch() {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		h.look()
		select {
		case <-h.exited:
			return
		case <-tick.C:
		}
	}
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// look reads the peak so far. The kernel counts it for the program alone, and not for the process
// that it was forked from.
func (h *host) look() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := highWater.FindSubmatch(b); m != nil {
		kib, _ := strconv.ParseInt(string(m[1]), 10, 64)
		h.peak = max(h.peak, kib<<10)
	}
	return h.peak
}

// quiet waits until a count has not changed for half a second.
func quiet(t *testing.T, count *atomic.Int64) {
	t.Helper()
	last, same := int64(-1), 0
	machines.Poll(t, func() bool {
		n := count.Load()
		if same++; n != last {
			last, same = n, 0
		}
		return same == 10
	}, "quiet")
}

// read reads the proxy's lines and keeps only their beginnings.
func (h *host) read() {
	defer h.note("", line{}, true)
	r := bufio.NewReaderSize(h.out, 1<<20)
	var l line
	for {
		part, err := r.ReadSlice('\n')
		l.size += int64(len(part))
		if room := 600 - len(l.head); room > 0 {
			l.head += string(part[:min(len(part), room)])
		}
		switch err {
		case nil:
			if m := answerTo.FindStringSubmatch(l.head); m != nil {
				h.note(m[1], l, false)
			}
			l = line{}
		case bufio.ErrBufferFull:
		default:
			return
		}
	}
}

// answerTo finds the raw id of an answer, which is no request.
var answerTo = regexp.MustCompile(`^\{"jsonrpc":"2\.0","id":("[^"]*"|\d+),\s*"(?:"|[^m"])`)

// note keeps an answer, and wakes whoever waits for it.
func (h *host) note(id string, l line, ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.answers[id]; !known && !ended {
		h.answers[id] = l
	}
	h.ended = h.ended || ended
	close(h.news)
	h.news = make(chan struct{})
}

func (h *host) send(text string) { io.WriteString(h.in, text) }

// answer waits for the line that answers the request with the raw id. An empty one means that the
// proxy has ended.
func (h *host) answer(id string) line {
	h.t.Helper()
	over := time.After(patience)
	for {
		h.mu.Lock()
		l, answered := h.answers[id]
		ended, news := h.ended, h.news
		h.mu.Unlock()
		if answered || ended {
			return l
		}
		select {
		case <-news:
		case <-over:
			h.t.Fatalf("no answer to %s; stderr:\n%.4000s", id, h.err())
		}
	}
}

func (h *host) open() string {
	h.t.Helper()
	h.send(machines.InitializeLine)
	l := h.answer(`"first"`)
	h.send(`{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n")
	return told(l)
}

func call(id int, tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":%q,"arguments":{}}}`+"\n", id, tool)
}

func request(id int, method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q}`+"\n", id, method)
}

var message = regexp.MustCompile(`"error":\{"code":(-?\d+),"message":"((?:[^"\\]|\\.)*)`)

// told is what an answer says, in a few words.
func told(l line) string {
	if m := message.FindStringSubmatch(l.head); m != nil {
		return fmt.Sprintf("%s %.90s", m[1], m[2])
	}
	if l.size == 0 {
		return "-"
	}
	return fmt.Sprintf("a result of %d bytes", l.size)
}

// report is a line of the table.
type report struct {
	name              string
	sent, letIn, peak int64
	took              time.Duration
	told              string
}

var reports struct {
	sync.Mutex
	all []report
}

// check compares the peak with the promise, and notes the row.
func (h *host) check(sent, letIn int64, told string) {
	h.t.Helper()
	peak := h.look()
	if peak == 0 {
		h.t.Error("the peak of the memory is not known")
	}
	if limit := base + factor*letIn; peak > limit {
		h.t.Errorf("peak %d MiB, want at most %d", peak/mib, limit/mib)
	}
	reports.Lock()
	defer reports.Unlock()
	reports.all = append(reports.all, report{h.t.Name(), sent, letIn, peak, time.Since(h.began), told})
}

// printTable prints all rows, the one with the highest peak first. It is seen with go test -v.
func printTable() {
	reports.Lock()
	defer reports.Unlock()
	slices.SortStableFunc(reports.all, func(a, b report) int { return cmp.Compare(b.peak, a.peak) })
	fmt.Println("peak MiB  limit  sent KiB  seconds  case: what the host was told")
	for _, r := range reports.all {
		fmt.Printf("%8d  %5d  %8d  %7.1f  %s: %s\n", r.peak/mib, (base+factor*r.letIn)/mib, r.sent>>10,
			r.took.Seconds(), strings.TrimPrefix(r.name, "Test"), strings.ReplaceAll(r.told, "\n", " "))
	}
}
