package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/environment"
)

const (
	commandTimeout = 30 * time.Second // for a command that copies nothing
	stallTimeout   = time.Minute      // for a part of the program to leave
	partSize       = 256 << 10        // bytes that are sent at a time
	maxOutput      = 64 << 10         // bytes of what a command prints
)

// Config describes the program and the machine.
type Config struct {
	// Host is the machine as the person typed it.
	Host string
	// Exec runs a command there, as Tunnel.Exec of package sshtunnel does.
	Exec func(ctx context.Context, command string) (io.ReadWriteCloser, error)
	// Program is the file of the program that runs here.
	Program string
	// Version is its version, without a v. It is empty for a build without one.
	Version string
	// OS and Arch are its platform, in the words of Go.
	OS, Arch string
	// Copying is called before the program is copied, with its number of bytes.
	Copying func(size int64)
}

// Result says where the program is on the machine now.
type Result struct {
	// Path is its file.
	Path string
	// Kept is the version of the program that was there and has been kept, because it is equal or
	// newer. It is empty if the program was copied.
	Kept string
	// InShell is the file that the login shell finds. It is empty if it finds none, and may be
	// another one than Path.
	InShell string
}

// PlatformError says that a machine needs another build of the program than the one that runs here.
type PlatformError struct {
	// Host is the machine.
	Host string
	// System and Machine are what uname -s and uname -m print there.
	System, Machine string
	// OS and Arch are the same in the words of Go. They are empty if Go has no such words.
	OS, Arch string
	// OurOS and OurArch are the platform of the program that runs here.
	OurOS, OurArch string
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("%s is %s on %s, and this program is built for %s on %s", e.Host, e.System, e.Machine, e.OurOS, e.OurArch)
}

// FailedError says that a machine did not take the program. What was there before is still there.
type FailedError struct {
	// Host is the machine.
	Host string
	// Reason is what its commands printed. It is empty if they printed nothing.
	Reason string
	// Err is how the command ended. It may be nil.
	Err error
}

func (e *FailedError) Error() string {
	switch {
	case e.Reason != "":
		return fmt.Sprintf("%s has not taken the program: %s", e.Host, e.Reason)
	case e.Err != nil:
		return fmt.Sprintf("%s has not taken the program: %v", e.Host, e.Err)
	}
	return e.Host + " runs no commands for us, so the program cannot be put there"
}

func (e *FailedError) Unwrap() error { return e.Err }

// errStalled says that a command takes or prints nothing more.
var errStalled = errors.New("it does not answer any more")

// Install puts the program on the machine, in ~/.local/bin, unless an equal or newer one is there.
// The errors are those of Exec, a *PlatformError, a *FailedError, or that of the program's file.
func Install(ctx context.Context, cfg Config) (Result, error) {
	program, err := os.Open(cfg.Program)
	if err != nil {
		return Result{}, err
	}
	defer program.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, program)
	if err != nil {
		return Result{}, err
	}
	hash := hex.EncodeToString(sum.Sum(nil))
	result, found, err := cfg.look(ctx, hash)
	if err != nil {
		return result, err
	}
	if !found {
		if cfg.Copying != nil {
			cfg.Copying(size)
		}
		if err := cfg.write(ctx, program, size, hash); err != nil {
			return result, err
		}
	}
	if out, err := cfg.run(ctx, pathsScript, nil); err == nil {
		result.InShell, _ = valueOf(results(out), "shell")
	}
	return result, ctx.Err()
}

// look returns what is on the machine, and whether that is to be kept.
func (cfg Config) look(ctx context.Context, hash string) (Result, bool, error) {
	out, err := cfg.run(ctx, lookScript, nil)
	lines := results(out)
	platform, ok := valueOf(lines, "platform")
	home, _ := valueOf(lines, "home")
	if !ok || home == "" {
		if err != nil {
			return Result{}, false, err
		}
		return Result{}, false, &FailedError{Host: cfg.Host}
	}
	if err := cfg.checkPlatform(platform); err != nil {
		return Result{}, false, err
	}
	for _, line := range lines {
		// found HASH sallyport VERSION GO PLATFORM PATH
		words := strings.SplitN(line, " ", 7)
		if words[0] != "found" || len(words) < 7 {
			continue
		}
		if words[1] == hash || isNewer(words[3], cfg.Version) {
			return Result{Path: words[6], Kept: words[3]}, true, nil
		}
	}
	return Result{Path: home + "/.local/bin/sallyport"}, false, nil
}

// isNewer reports whether the version there is as good as ours. It is not if either is no version,
// as that of a developer's build.
func isNewer(there, ours string) bool {
	order, ok := environment.CompareVersions(there, ours)
	return ok && order >= 0
}

// checkPlatform compares what uname prints with the platform of the program.
func (cfg Config) checkPlatform(platform string) error {
	system, machine, _ := strings.Cut(platform, " ")
	e := &PlatformError{Host: cfg.Host, System: system, Machine: machine, OurOS: cfg.OS, OurArch: cfg.Arch}
	e.OS, e.Arch = systems[system], machines[machine]
	if e.OS == cfg.OS && e.Arch == cfg.Arch {
		return nil
	}
	return e
}

// systems and machines translate the words of uname into those of Go.
var (
	systems = map[string]string{
		"Linux": "linux", "Darwin": "darwin", "FreeBSD": "freebsd", "OpenBSD": "openbsd", "NetBSD": "netbsd", "DragonFly": "dragonfly",
	}
	machines = map[string]string{
		"x86_64": "amd64", "amd64": "amd64", "i386": "386", "i686": "386", "aarch64": "arm64", "arm64": "arm64",
		"armv6l": "arm", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64", "loongarch64": "loong64",
	}
)

// write copies the program.
func (cfg Config) write(ctx context.Context, program io.ReadSeeker, size int64, hash string) error {
	if _, err := program.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := cfg.run(ctx, writeScript(size, hash), io.LimitReader(program, size))
	lines := results(out)
	if _, done := valueOf(lines, "done"); done {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	reason, _ := valueOf(lines, "failed")
	return &FailedError{Host: cfg.Host, Reason: reason, Err: err}
}

// run runs a command with the given stdin, which may be nil, and returns what it prints. A command
// may take 30 seconds, and a minute longer for each part of stdin.
func (cfg Config) run(ctx context.Context, command string, stdin io.Reader) (string, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(commandTimeout, func() { cancel(errStalled) })
	defer late.Stop()
	session, err := cfg.Exec(ctx, command)
	if err != nil {
		return "", err
	}
	defer session.Close()
	defer context.AfterFunc(ctx, func() { session.Close() })()
	// A command that fails prints why, and reads no more.
	var sendErr error
	if stdin != nil {
		sendErr = send(session, stdin, func() { late.Reset(stallTimeout) })
		late.Reset(commandTimeout)
	}
	out, err := io.ReadAll(io.LimitReader(session, maxOutput))
	if err == nil {
		err = sendErr
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return string(out), err
}

// send writes everything of stdin, and calls sent after each part.
func send(to io.Writer, stdin io.Reader, sent func()) error {
	part := make([]byte, partSize)
	for {
		n, err := io.ReadFull(stdin, part)
		if n > 0 {
			if _, err := to.Write(part[:n]); err != nil {
				return err
			}
			sent()
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}
