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

// commandFile begins what stands for the file in lines that KnownHostsCommand printed.
const commandFile = "KnownHostsCommand-"

// maxCommandOutput is the most that is read of a KnownHostsCommand, in bytes.
const maxCommandOutput = 1 << 20

// runKnownHostsCommand runs KnownHostsCommand (ssh_config(5)), which prints lines in the format of
// known_hosts.
//
// purpose is what the token %I stands for: ORDER before the server has shown a key, then HOSTNAME
// and, with CheckHostIP, ADDRESS. name is what is looked up. key is nil for ORDER. As with ssh, a
// command that cannot be started knows nothing, and one that fails ends the connection.
func (v *Verifier) runKnownHostsCommand(
	ctx context.Context, purpose, name string, key ssh.PublicKey,
) ([]knownEntry, error) {
	if v.host.KnownHostsCommand == "" {
		return nil, nil
	}
	unusable := func(err error) ([]knownEntry, error) {
		v.log.Warn("KnownHostsCommand not run", "hop", v.host.Alias, "err", err)
		return nil, nil
	}
	args, err := sshconfig.SplitCommand(v.host.KnownHostsCommand)
	if err != nil {
		return unusable(err)
	}
	if len(args) == 0 || !filepath.IsAbs(args[0]) {
		return unusable(fmt.Errorf("%q is not an absolute path", display.Cut(v.host.KnownHostsCommand)))
	}
	tokens := map[byte]string{'H': name, 'I': purpose, 't': "NONE", 'f': "NONE", 'K': "NONE"}
	if key != nil {
		tokens['t'], tokens['f'] = key.Type(), Fingerprint(key)
		tokens['K'] = base64.StdEncoding.EncodeToString(key.Marshal())
	}
	for i := range args[1:] {
		if args[i+1], err = v.host.ExpandTokens(args[i+1], tokens, v.getenv); err != nil {
			return nil, fmt.Errorf("KnownHostsCommand: %w", err)
		}
	}
	output, stderr := limitedBuffer{limit: maxCommandOutput}, limitedBuffer{limit: display.Limit}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &output, &stderr
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
	return readKnownHosts(commandFile+purpose, SourceCommand, &output)
}

// limitedBuffer holds the first bytes that are written to it, and drops the others.
type limitedBuffer struct {
	bytes.Buffer
	// limit is how many bytes it holds at most.
	limit int
}

// Write never fails.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
