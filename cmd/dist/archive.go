package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one file of an archive.
type file struct {
	// name is its path there, with slashes.
	name string
	// mode is 0644 or 0755.
	mode os.FileMode
	// text is what it holds.
	text []byte
}

// collectExtras returns what goes into each archive beside the binary: licence, README, changes,
// manual, and the completion of each shell.
func collectExtras(ctx context.Context) ([]file, error) {
	var files []file
	for _, f := range []struct{ path, name string }{
		{"LICENSE", "LICENSE"}, {"README.md", "README.md"}, {"CHANGELOG.md", "CHANGELOG.md"},
		{"cmd/sallyport/sallyport.1", "man/sallyport.1"},
	} {
		text, err := os.ReadFile(f.path)
		if err != nil {
			return nil, err
		}
		files = append(files, file{f.name, 0o644, text})
	}
	for shell, name := range map[string]string{
		"bash": "sallyport.bash", "zsh": "_sallyport", "fish": "sallyport.fish", "powershell": "sallyport.ps1",
	} {
		text, err := exec.CommandContext(ctx, "go", "run", "sallyport/cmd/sallyport", "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion for %s: %w", shell, err)
		}
		files = append(files, file{"completions/" + name, 0o644, text})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// archive makes the archive of one binary: a zip file for Windows, and else a compressed tar file.
// Everything in it lies in one folder.
func (r *release) archive(b *binary, extras []file) error {
	program, err := os.ReadFile(b.path)
	if err != nil {
		return err
	}
	folder := fmt.Sprintf("sallyport-%s-%s", r.version, b.platform)
	files := []file{{folder + "/" + b.name(), 0o755, program}}
	for _, f := range extras {
		files = append(files, file{folder + "/" + f.name, f.mode, f.text})
	}
	var text []byte
	if b.os == "windows" {
		b.archive = folder + ".zip"
		text, err = zipped(files, r.made)
	} else {
		b.archive = folder + ".tar.gz"
		text, err = tarred(files, r.made)
	}
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	b.sum = hex.EncodeToString(sum[:])
	return os.WriteFile(filepath.Join(r.out, b.archive), text, 0o644)
}

// tarred returns a compressed tar file. The same files give the same bytes.
func tarred(files []file, made time.Time) ([]byte, error) {
	var b bytes.Buffer
	zipper, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zipper)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(f.text)), ModTime: made, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	err = zipper.Close()
	return b.Bytes(), err
}

// zipped returns a zip file. The same files give the same bytes.
func zipped(files []file, made time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: made}
		header.SetMode(f.mode)
		entry, err := w.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := entry.Write(f.text); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// checksums writes the SHA-256 of all results, as sha256sum does.
func (r *release) checksums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, entry := range entries {
		if entry.IsDir() {
			continue // manifests, which are not downloaded
		}
		text, err := os.ReadFile(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(text), entry.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(list.String()), 0o644)
}
