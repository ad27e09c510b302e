package hostkeys

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/sshtunnel/display"
	"sallyport/sshtunnel/sshconfig"
)

// commandFile begins what stands for the file name in lines that the command printed.
const commandFile = "KnownHostsCommand-"

// maxCommandOutput is the most that is read of a KnownHostsCommand, in bytes.
const maxCommandOutput = 1 << 20

// runKnownHostsCommand runs KnownHostsCommand (ssh_config(5)), which prints lines as known_hosts has them.
// why is what %I stands for: ORDER, before a key is there, then HOSTNAME and, with CheckHostIP,
// ADDRESS; name is what is looked up. As with ssh, a command that cannot be started knows nothing,
// one that fails ends the connection.
func (c *Verifier) runKnownHostsCommand(ctx context.Context, why, name string, key ssh.PublicKey) ([]knownEntry, error) {
	if c.host.KnownHostsCommand == "" {
		return nil, nil
	}
	unusable := func(err error) ([]knownEntry, error) {
		c.log.Warn("KnownHostsCommand not run", "hop", c.host.Alias, "err", err)
		return nil, nil
	}
	args, err := sshconfig.SplitCommand(c.host.KnownHostsCommand)
	if err != nil {
		return unusable(err)
	}
	if len(args) == 0 || !filepath.IsAbs(args[0]) {
		return unusable(fmt.Errorf("%q is not an absolute path", display.Cut(c.host.KnownHostsCommand)))
	}
	tokens := map[byte]string{'H': name, 'I': why, 't': "NONE", 'f': "NONE", 'K': "NONE"}
	if key != nil {
		tokens['t'], tokens['f'], tokens['K'] = key.Type(), Fingerprint(key), base64.StdEncoding.EncodeToString(key.Marshal())
	}
	for i := range args[1:] {
		if args[i+1], err = c.host.ExpandTokens(args[i+1], tokens, c.getenv); err != nil {
			return nil, fmt.Errorf("KnownHostsCommand: %w", err)
		}
	}
	var out, stderr limitedBuffer
	out.limit, stderr.limit = maxCommandOutput, display.Limit
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = time.Second // a grandchild may hold its outputs open
	if err := cmd.Start(); err != nil {
		return unusable(err)
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if stderr.Len() > 0 {
			return nil, fmt.Errorf("KnownHostsCommand: %w: %q", err, bytes.TrimSpace(stderr.Bytes()))
		}
		return nil, fmt.Errorf("KnownHostsCommand: %w", err)
	}
	entries, err := readKnownHosts(commandFile+why, &out)
	for i := range entries {
		entries[i].source = fromCommand
	}
	return entries, err
}

// limitedBuffer keeps the first bytes that are written to it, and swallows the others.
type limitedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
