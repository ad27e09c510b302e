package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
)

// Records remembers which containers were missing or empty before the first entry of ours, so that
// an uninstall leaves them so. It is the path of a file, which need not exist. The empty one
// remembers nothing.
type Records string

// key is the name of a container in the file of records.
func key(path string, container []string) string { return path + "#" + strings.Join(container, "/") }

// load reads the file. What cannot be read is as good as forgotten: containers then stay empty.
func (r Records) load() map[string][]Made {
	records := map[string][]Made{}
	if text, err := os.ReadFile(string(r)); err == nil {
		_ = json.Unmarshal(text, &records)
	}
	return records
}

// of returns what is remembered of a container and those around it.
func (r Records) of(path string, container []string) []Made {
	return r.load()[key(path, container)]
}

// add remembers containers.
func (r Records) add(path string, container []string, made []Made) error {
	records := r.load()
	records[key(path, container)] = made
	return r.save(records)
}

// forget forgets what is remembered of a container.
func (r Records) forget(path string, container []string) error {
	records := r.load()
	if _, ok := records[key(path, container)]; !ok {
		return nil
	}
	delete(records, key(path, container))
	return r.save(records)
}

// save writes the file, for this user alone.
func (r Records) save(records map[string][]Made) error {
	if r == "" {
		return nil
	}
	text, err := json.MarshalIndent(records, "", "  ")
	if err != nil {
		return err
	}
	return WriteSecret(string(r), string(text)+"\n")
}

// WriteSecret writes a file that only this user can read, and its directory if that is missing.
func WriteSecret(path, text string) error {
	f := configFile{path: path, target: path, mode: 0o600}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := f.write([]byte(text))
	if err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
