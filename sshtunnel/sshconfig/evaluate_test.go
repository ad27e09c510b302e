package sshconfig

import (
	"errors"
	"os"
	"runtime"
	"testing"
)

func TestOwnerAndAbsenceOfFiles(t *testing.T) {
	r := configResolver(t, "User alice\n")
	if runtime.GOOS != "windows" {
		if err := os.Chmod(r.UserFile, 0o620); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Resolve(t.Context(), "web"); err == nil {
			t.Error("a file that the group can write is not refused")
		}
		r.UserFileRequired = true // -F: the owner is not asked
		if _, err := r.Resolve(t.Context(), "web"); err != nil {
			t.Error(err)
		}
	}
	r.UserFile += ".missing"
	_, err := r.Resolve(t.Context(), "web")
	if c, ok := errors.AsType[*Error](err); !ok || c.File != r.UserFile {
		t.Errorf("missing -F file: error = %v, want an Error", err)
	}
	r.UserFileRequired = false
	if _, err := r.Resolve(t.Context(), "web"); err != nil {
		t.Errorf("missing ~/.ssh/config: %v", err)
	}
	if h, err := new(Resolver).Resolve(t.Context(), "web"); err != nil || h.HostName != "web" || h.Port != 22 || h.User == "" {
		t.Errorf("zero Resolver: %+v, %v", h, err)
	}
}
