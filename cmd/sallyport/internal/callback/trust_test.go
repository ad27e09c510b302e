package callback

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Trust is for one HOST, one origin and one issuer, and is forgotten by choice or as a whole.
func TestTrust(t *testing.T) {
	trust := NewTrust(t.TempDir())
	if trust.Has("a", "https://o", "") || trust.List() != nil {
		t.Error("something is remembered from the start")
	}
	for _, e := range []Trusted{
		{Host: "b", Origin: "https://o", Issuer: "https://o", Upstream: "https://u1", Since: time.Now()},
		{Host: "a", Origin: "https://o", Issuer: "https://o", Upstream: "https://u2", Since: time.Now()},
	} {
		if err := trust.Add(e); err != nil {
			t.Fatal(err)
		}
		if err := trust.Add(e); err != nil { // again
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		host, origin, issuer string
		want                 bool
	}{
		{"a", "https://o", "https://o", true}, {"c", "https://o", "https://o", false},
		{"a", "https://evil", "https://o", false}, {"a", "https://o", "https://evil", false}, {"a", "https://o", "", false},
	} {
		if got := trust.Has(row.host, row.origin, row.issuer); got != row.want {
			t.Errorf("%+v: got %t", row, got)
		}
	}
	if list := trust.List(); len(list) != 2 || list[0].Host != "a" {
		t.Errorf("the list is %+v", list)
	}
	if fi, err := os.Stat(trust.file("a", "https://o", "https://o")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", fi, err)
	}
	if n, err := trust.Forget(func(e Trusted) bool { return e.Upstream == "https://u1" }); n != 1 || err != nil {
		t.Errorf("forgot %d, %v", n, err)
	}
	if trust.Has("b", "https://o", "https://o") || !trust.Has("a", "https://o", "https://o") {
		t.Error("the wrong one is forgotten")
	}
	broken := filepath.Join(trust.Dir, "broken.json")
	if err := os.WriteFile(broken, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := trust.Forget(nil); n != 2 || err != nil || trust.List() != nil {
		t.Errorf("forgot %d, %v; %+v is left", n, err, trust.List())
	}
	if NewTrust("").Has("a", "https://o", "") || NewTrust("").Add(Trusted{}) != nil {
		t.Error("without a directory something is remembered")
	}
}
