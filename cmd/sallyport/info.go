package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
)

// Run prints the resolved configuration.
func (c *sshConfigCommand) Run(ctx context.Context, a *app) error {
	host, err := a.resolver(c.sshFlags).Resolve(ctx, c.Host)
	if err != nil {
		return err
	}
	_, err = host.WriteTo(a.out)
	return err
}

// version is set by the linker; a plain go build knows only the module's.
var version = "devel"

// Run prints the version.
func (versionCommand) Run(a *app) error {
	_, err := fmt.Fprintf(a.out, "sallyport %s %s %s/%s\n", strings.TrimPrefix(version, "v"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
