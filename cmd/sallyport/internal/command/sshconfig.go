package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
)

// sshConfig prints the configuration resolved for one host, as ssh -G does. It runs the commands of
// Match exec, but it dials nothing and asks nobody.
func (a *app) sshConfig(ctx context.Context, settings cli.SSH, name string) error {
	host, err := session.SSH{Settings: settings, Env: a.env, Log: a.log}.Resolver().Resolve(ctx, name)
	if err != nil {
		return err
	}
	_, err = host.WriteTo(a.std.Out)
	return err
}
