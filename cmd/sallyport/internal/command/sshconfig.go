package command

import (
	"context"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
)

// sshConfig prints the configuration resolved for one host, as ssh -G does. It runs the commands of
// Match exec, but it dials nothing and asks nobody.
func (a *app) sshConfig(ctx context.Context, settings cli.SSH, name string) error {
	resolver := session.SSH{Settings: settings, Env: a.env, Log: a.log}.Resolver()
	host, err := resolver.Resolve(ctx, name)
	if err != nil {
		return err
	}
	if !host.Named() {
		a.messages.Say("no Host block of ssh_config is for %s; these are the defaults", host.Alias)
		if near := cli.Nearest(host.Alias, resolver.Aliases(ctx)); near != "" {
			a.messages.Say("did you mean: sallyport ssh-config %s", near)
		}
	}
	_, err = host.WriteTo(a.std.Out)
	return err
}
