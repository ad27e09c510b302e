package userkeys

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"sallyport/sshtunnel/sshconfig"
)

// Snapshot returns a text that is another one when other keys would be offered to h: when the agent
// has other keys or is not reached, or when a file of a key was changed. It holds no secret. ctx
// bounds the call.
func Snapshot(ctx context.Context, h *sshconfig.Host, getenv func(string) string) string {
	var b strings.Builder
	if a, err := OpenAgent(ctx, h, getenv); err != nil {
		fmt.Fprintf(&b, "agent: %v\n", err)
	} else if a != nil {
		stop := context.AfterFunc(ctx, a.Close)
		keys, err := a.list()
		stop()
		a.Close()
		for _, k := range keys {
			fmt.Fprintf(&b, "agent: %x\n", sha256.Sum256(k.Blob))
		}
		if err != nil {
			fmt.Fprintf(&b, "agent: %v\n", err)
		}
	}
	for _, path := range append(append([]string{}, h.IdentityFiles...), h.CertificateFiles...) {
		for _, name := range []string{path, path + ".pub", path + "-cert.pub"} {
			if fi, err := os.Stat(name); err == nil {
				fmt.Fprintf(&b, "file: %q %d %v %v\n", name, fi.Size(), fi.ModTime().UnixNano(), fi.Mode())
			}
		}
	}
	return b.String()
}
