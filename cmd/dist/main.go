// Dist makes what people install: archives of static binaries for six platforms, packages for
// Debian and Red Hat, for npm and for MCP hosts that take bundles, manifests for Homebrew, Scoop
// and winget, a server.json, a list of what the binaries are built from, and checksums of it all.
// The same commit gives the same bytes. `make dist` starts it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r := &release{}
	flag.StringVar(&r.out, "out", "dist", "directory for the results; it must not exist")
	flag.StringVar(&r.version, "version", "", "version without a v; the last tag if empty")
	flag.StringVar(&r.baseURL, "url", "https://downloads.invalid/sallyport", "where the files will be downloaded from, for the manifests")
	only := flag.String("only", "", "make only the platforms whose name has this, such as linux-amd64")
	flag.Parse()
	err := r.describe(ctx)
	if err == nil {
		err = r.make(ctx, *only)
	}
	if err != nil {
		stop()
		log.Fatalf("dist: %v", err) // runs no deferred call, so stop comes first
	}
}

// release is one version of the program, and where its files go.
type release struct {
	// out is the directory for the results.
	out string
	// version is as 1.2.3, without a v.
	version string
	// baseURL is where the files will be downloaded from, without a slash at the end.
	baseURL string
	// made is the time of the commit. All files have it.
	made time.Time
	// built are the binaries.
	built []binary
}

// platform is one system and kind of processor, in the words of Go.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "-" + p.arch }

// platforms are those that a release is made for.
var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"},
}

// binary is the program for one platform.
type binary struct {
	platform
	// path is the file.
	path string
	// archive is the name of its archive in the results, and sum the archive's SHA-256 in
	// hexadecimal.
	archive, sum string
}

// name is what the program is called on its platform.
func (b binary) name() string {
	if b.os == "windows" {
		return "sallyport.exe"
	}
	return "sallyport"
}

// plainVersion is a version of semver.org.
var plainVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

// describe finds the version and the time of the commit, as far as they are not given. Between two
// versions, the version is the next one with the number of commits and the commit behind it.
func (r *release) describe(ctx context.Context) error {
	if r.version == "" {
		text, err := output(ctx, "git", "describe", "--tags", "--match", "v[0-9]*", "--long", "--abbrev=10")
		if err != nil {
			text = "v0.0.0-0-g0"
		}
		if r.version, err = versionOf(text); err != nil {
			return err
		}
	}
	if !plainVersion.MatchString(r.version) {
		return fmt.Errorf("%q is not a version as 1.2.3", r.version)
	}
	text, err := output(ctx, "git", "log", "-1", "--format=%ct")
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		text, err = epoch, nil
	}
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("the time of the commit: %w", err)
	}
	r.made = time.Unix(seconds, 0).UTC()
	return nil
}

// described is what `git describe --long` prints: tag, commits since, commit.
var described = regexp.MustCompile(`^v([0-9]+)\.([0-9]+)\.([0-9]+)-([0-9]+)-(g[0-9a-f]+)$`)

// versionOf makes a version of what `git describe --long` prints.
func versionOf(text string) (string, error) {
	m := described.FindStringSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%q does not begin with a tag as v1.2.3", text)
	}
	if m[4] == "0" && m[5] != "g0" {
		return strings.Join(m[1:4], "."), nil
	}
	patch, err := strconv.Atoi(m[3])
	return fmt.Sprintf("%s.%s.%d-dev.%s.%s", m[1], m[2], patch+1, m[4], m[5]), err
}

// make makes all files. Steps that need all platforms are left out if only names some.
func (r *release) make(ctx context.Context, only string) error {
	if err := os.Mkdir(r.out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "sallyport-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, p := range platforms {
		if strings.Contains(p.String(), only) {
			if err := r.build(ctx, p, filepath.Join(work, p.String())); err != nil {
				return err
			}
		}
	}
	if len(r.built) == 0 {
		return fmt.Errorf("no platform has %q in its name", only)
	}
	extras, err := collectExtras(ctx)
	if err != nil {
		return err
	}
	for i := range r.built {
		if err := r.archive(&r.built[i], extras); err != nil {
			return err
		}
	}
	steps := []func() error{
		func() error { return r.systemPackages(ctx, extras, work) },
		func() error { return r.npmPackages(ctx, work) },
		r.bundles,
		r.materials,
	}
	if only == "" {
		steps = append(steps, r.manifests)
	}
	for _, step := range append(steps, r.checksums) {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// build builds the program for one platform.
func (r *release) build(ctx context.Context, p platform, dir string) error {
	log.Printf("dist: sallyport %s for %s", r.version, p)
	b := binary{platform: p}
	b.path = filepath.Join(dir, b.name())
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+r.version, "-o", b.path, "sallyport/cmd/sallyport")
	cmd.Env = append(os.Environ(), "GOOS="+p.os, "GOARCH="+p.arch, "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s: %w: %s", p, err, text)
	}
	r.built = append(r.built, b)
	return nil
}

// output returns what a command prints, without the last newline.
func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w: %s", name, err, exit.Stderr)
	}
	return strings.TrimSpace(string(text)), err
}
