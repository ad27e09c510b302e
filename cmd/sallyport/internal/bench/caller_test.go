//go:build linux

package bench_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/cmd/sallyport/internal/machines"

	"golang.org/x/sys/unix"
)

// What a host sends. A call has an id that no other one has.
const (
	initializeLine  = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}` + "\n"
	initializedLine = `{"jsonrpc":"2.0","method":"notifications/initialized"}` + "\n"
)

func callLine(tool string, id int) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"%s","arguments":{"message":"hello"}}}`+"\n", id, tool)
}

// caller makes calls. It looks at no more of an answer than it must.
type caller interface {
	// call makes one request and waits for its answer.
	call(line string) error
	// many makes so many requests, so many of them in flight.
	many(total, inFlight int, line func(id int) string) error
}

// floorCaller calls the server itself, as a bare HTTP client.
type floorCaller struct {
	url    string
	client *http.Client
}

func newFloorCaller(url, caFile string) (*floorCaller, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	return &floorCaller{url: url, client: &http.Client{Transport: transport}}, nil
}

func (c *floorCaller) call(line string) error {
	req, err := http.NewRequest(http.MethodPost, c.url, strings.NewReader(line))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func (c *floorCaller) many(total, inFlight int, line func(int) string) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, inFlight)
	for range inFlight {
		wg.Go(func() {
			for {
				id := int(next.Add(1))
				if id > total {
					return
				}
				if err := c.call(line(id)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// pipeCaller drives a process through its stdin and stdout.
type pipeCaller struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startPipe starts a contender's process.
func startPipe(c contender) (*pipeCaller, error) {
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Env, cmd.Stderr = c.Env, os.Stderr
	if len(c.Command) > 1 && filepath.IsAbs(c.Command[1]) { // a program of Node.js, at home in its package
		cmd.Dir = filepath.Dir(c.Command[1])
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	machines.OwnGroup(cmd)
	return &pipeCaller{cmd: cmd, in: in, out: bufio.NewReaderSize(out, 64<<10)}, cmd.Start()
}

// open makes the first exchange of a session.
func (c *pipeCaller) open() error {
	if err := c.call(initializeLine); err != nil {
		return err
	}
	_, err := io.WriteString(c.in, initializedLine)
	return err
}

func (c *pipeCaller) close() {
	c.in.Close()
	c.cmd.Wait()
}

// answer reads a line that is no notification, and reports an error answer. It does not parse, and
// it does not look at the end of a large answer.
func (c *pipeCaller) answer() error {
	head, err := c.out.ReadSlice('\n')
	for err == nil && bytes.Contains(head[:min(len(head), 200)], []byte(`"method"`)) {
		head, err = c.out.ReadSlice('\n')
	}
	if bytes.Contains(head[:min(len(head), 200)], []byte(`"error"`)) {
		return fmt.Errorf("answer %.300s", head)
	}
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = c.out.ReadSlice('\n')
	}
	return err
}

func (c *pipeCaller) call(line string) error {
	if _, err := io.WriteString(c.in, line); err != nil {
		return err
	}
	return c.answer()
}

func (c *pipeCaller) many(total, inFlight int, line func(int) string) error {
	slots := make(chan struct{}, inFlight)
	written := make(chan error, 1)
	go func() { // ends with the last line, or with the pipe
		for id := range total {
			slots <- struct{}{}
			if _, err := io.WriteString(c.in, line(id)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for range total {
		if err := c.answer(); err != nil {
			return err
		}
		<-slots
	}
	return <-written
}

// processorTime is what all threads of the process have taken so far, by its own clock
// (clock_getcpuclockid(3)).
func (c *pipeCaller) processorTime() time.Duration {
	var now unix.Timespec
	unix.ClockGettime(int32(^c.cmd.Process.Pid)<<3|2, &now) // CPUCLOCK_SCHED of linux/posix-timers.h
	return time.Duration(now.Nano())
}

// proportional is the proportional set size of the process in MiB.
func (c *pipeCaller) proportional() (float64, error) { return proportional(c.cmd.Process.Pid) }

// proportional is the proportional set size of a process in MiB (proc_pid_smaps(5)): its own pages,
// and its part of those that it shares with others.
func proportional(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, errors.New("no Pss in smaps_rollup")
}
