package person

import (
	"context"

	"sallyport/cmd/sallyport/internal/environment"
)

// OpenBrowser starts the person's browser at a link, which must be http or https. The command is
// that of --browser, or empty for the system's browser. OpenBrowser returns as soon as the browser
// was started, and the browser outlives ctx.
func OpenBrowser(ctx context.Context, env environment.Environment, command, link string) error {
	return openBrowser(ctx, env, command, link)
}
