package service

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
)

// Program is what runs.
type Program struct {
	// Path is the full path of the program.
	Path string
	// Args are its arguments. They must hold no secret.
	Args []string
	// Description says what it is for, on one line.
	Description string
}

// Machine is where it runs.
type Machine struct {
	// OS is the system, in the words of Go.
	OS string
	// Env is the environment of the command that installs.
	Env environment.Environment
	// UserID is the user's numeric ID. launchd needs it.
	UserID int
	// Run runs a command of the system, and returns what it prints.
	Run func(ctx context.Context, name string, args ...string) (string, error)
}

// Report says what was done.
type Report struct {
	// Place is the file or the registry value of the service.
	Place string
	// Text is what stands there.
	Text string
	// Running says that the service runs now.
	Running bool
	// Notes are what the person should know besides, one line each.
	Notes []string
}

// UnsupportedError says that the system has no way that is known here.
type UnsupportedError struct {
	// OS is the system.
	OS string
	// Line is the command line to start at log-on.
	Line string
}

func (e *UnsupportedError) Error() string {
	return "no way is known to start a service at log-on here (" + e.OS + " without systemd)"
}

// Install makes the program a service, in place of the one that was there, and starts it. The error
// is an *UnsupportedError, or says that the text could not be written. What the system's commands
// say against it is a note.
func Install(ctx context.Context, m Machine, p Program) (Report, error) {
	switch m.OS {
	case "linux":
		return m.installUnit(ctx, p)
	case "darwin":
		return m.installAgent(ctx, p)
	case "windows":
		return m.installRunKey(ctx, p)
	}
	return Report{}, &UnsupportedError{OS: m.OS, Line: commandLine(p)}
}

// Remove ends the service and takes it away. The report has a Place only if there was one.
func Remove(ctx context.Context, m Machine) (Report, error) {
	switch m.OS {
	case "linux":
		return m.removeUnit(ctx)
	case "darwin":
		return m.removeAgent(ctx)
	case "windows":
		return m.removeRunKey(ctx)
	}
	return Report{}, nil
}

// write puts a text into a file, which nobody ever sees half written.
func write(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(path), ".sallyport-*") // of mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	if _, err := part.WriteString(text); err != nil {
		part.Close()
		return err
	}
	if err := part.Close(); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

// remove takes a file away, and reports whether there was one.
func remove(path string) (bool, error) {
	err := os.Remove(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// exists reports whether a file is there.
func exists(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().Type() != fs.ModeDir
}

// note is the note of a command of the system that failed.
func note(output string, err error, name string, args ...string) string {
	line := strings.TrimSpace(output)
	if line == "" {
		line = err.Error()
	}
	first, _, _ := strings.Cut(line, "\n")
	return fmt.Sprintf("%s %s failed: %s", name, strings.Join(args, " "), strings.TrimSpace(first))
}

// commandLine returns the command line for people.
func commandLine(p Program) string {
	words := append([]string{p.Path}, p.Args...)
	for i, word := range words {
		if strings.ContainsAny(word, " \t\"'\\$&;|<>()*?`") {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
