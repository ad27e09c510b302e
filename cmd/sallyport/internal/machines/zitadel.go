//go:build linux

package machines

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// StartZitadel builds and starts testdata/zitadel, an authorization server of another family than
// oidc-provider. It ends with the test.
func StartZitadel(t testing.TB) (issuer string, server *Process) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zitadel")
	err := goBuild(testdata(t, "zitadel"), "-o", path, ".")
	Need(t, err == nil, "github.com/zitadel/oidc", "go build in cmd/sallyport/testdata/zitadel, which says: "+errorText(err))
	server = StartProcess(t, exec.Command(path))
	return server.Out.FirstLine(t), server
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
