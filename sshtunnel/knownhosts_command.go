package sshtunnel

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

// commandFile begins what stands for the file name in lines that the command printed.
const commandFile = "KnownHostsCommand-"

// maxCommandOutput is the most that is read of a KnownHostsCommand, in bytes.
const maxCommandOutput = 1 << 20

// runKnownHostsCommand runs KnownHostsCommand (ssh_config(5)), which prints lines as known_hosts has them.
// why is what %I stands for: ORDER, before a key is there, then HOSTNAME and, with CheckHostIP,
// ADDRESS; name is what is looked up. As with ssh, a command that cannot be started knows nothing,
// one that fails ends the connection.
func (c *hostKeyCheck) runKnownHostsCommand(why, name string, key ssh.PublicKey) ([]knownEntry, error) {
	if c.host.KnownHostsCommand == "" {
		return nil, nil
	}
	unusable := func(err error) ([]knownEntry, error) {
		c.log.Warn("KnownHostsCommand not run", "hop", c.host.Alias, "err", err)
		return nil, nil
	}
	args, err := splitArguments(c.host.KnownHostsCommand)
	if err != nil {
		return unusable(err)
	}
	if len(args) == 0 || !filepath.IsAbs(args[0]) {
		return unusable(fmt.Errorf("%q is not an absolute path", cut(c.host.KnownHostsCommand)))
	}
	tokens := c.host.commandTokens()
	tokens['H'], tokens['I'] = name, why
	tokens['t'], tokens['f'], tokens['K'] = "NONE", "NONE", "NONE"
	if key != nil {
		tokens['t'], tokens['f'], tokens['K'] = key.Type(), fingerprint(key), base64.StdEncoding.EncodeToString(key.Marshal())
	}
	for i := range args[1:] {
		if args[i+1], err = expand(args[i+1], tokens, c.getenv); err != nil {
			return nil, fmt.Errorf("KnownHostsCommand: %w", err)
		}
	}
	var out, stderr limitedBuffer
	out.limit, stderr.limit = maxCommandOutput, maxPeerText
	cmd := exec.CommandContext(c.ctx, args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = time.Second // a grandchild may hold its outputs open
	if err := cmd.Start(); err != nil {
		return unusable(err)
	}
	if err := cmd.Wait(); err != nil {
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

// commandTokens are the tokens of ssh_config(5) that do not depend on the server's key.
func (h *Host) commandTokens() map[byte]string {
	if h.tokens != nil {
		return maps.Clone(h.tokens)
	}
	return map[byte]string{'h': h.HostName, 'n': h.Alias, 'p': strconv.Itoa(h.Port), 'r': h.User} // not made by a Resolver
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
