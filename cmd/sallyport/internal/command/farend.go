package command

import (
	"context"
	"errors"
	"strings"

	"sallyport/cmd/sallyport/internal/callback"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/helper"
)

// farEnd is the end of a way between two sallyports that one of them has started on the other's
// machine, over a session channel of SSH. Its stdin and stdout lead to the one that started it.
func farEnd(ctx context.Context, a *app, c *cli.FarEndCommand) error {
	end := helper.FarEnd{
		Dirs: helper.Dirs(a.controlDirs(c.Store), a.env.UsualStateDir()), Version: a.env.Version, Program: a.env.Executable,
		In: a.std.In, Out: a.toHost,
	}
	switch {
	case c.Dial != 0:
		return end.DialHere(ctx, c.Dial)
	case !c.Join:
		return end.Run(ctx)
	}
	err := end.Join(ctx, comesFrom(a))
	if !errors.Is(err, helper.ErrNoHelper) {
		return err
	}
	// Nobody lends the browser of this machine yet, so this process does, for the one login.
	desk, err := callback.New(deskConfig(a, &cli.CallbackCommand{Store: c.Store}))
	if err != nil {
		return err
	}
	defer desk.Close()
	conn, err := end.Greet()
	if err != nil {
		return err
	}
	return desk.Serve(ctx, conn, callback.Origin{Host: comesFrom(a)})
}

// comesFrom returns how the machine that has connected to this one by SSH is called here: by its
// address, because SSH tells no name.
func comesFrom(a *app) string {
	address, _, _ := strings.Cut(a.env.Getenv("SSH_CONNECTION"), " ")
	return address
}
