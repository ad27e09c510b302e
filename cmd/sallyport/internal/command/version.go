package command

import (
	"cmp"
	"fmt"
	"runtime"
	"strings"
)

// version prints the version of this build. A build without a version is called devel.
func (a *app) version() error {
	v := cmp.Or(strings.TrimPrefix(a.env.Version, "v"), "devel")
	_, err := fmt.Fprintf(a.std.Out, "sallyport %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
