package share

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/sshtunnel/sshconfig"
)

// agentExtension is that of the file that names the agent of a way. Its name is the key of the way
// without an agent.
const agentExtension = ".agent"

// maxAgentPath is the most bytes that are read of such a file.
const maxAgentPath = 4096

// UsesAgent reports whether a hop of the chain asks the agent that SSH_AUTH_SOCK leads to.
func UsesAgent(chain []*sshconfig.Host) bool {
	return slices.ContainsFunc(chain, func(h *sshconfig.Host) bool {
		return h.PubkeyAuthentication && (h.IdentityAgent == "" || h.IdentityAgent == agentVariable)
	})
}

// Agent returns the path of the agent by which another process of this user went through the chain
// last, whatever SSH_AUTH_SOCK is here. up says that a connection by that agent is up, so that the
// agent need not answer any more. The path is empty if there was no such process.
func (c *Client) Agent(ctx context.Context, chain []*sshconfig.Host) (path string, up bool) {
	w := c.way(chain)
	name := w.withAgent("").key() + agentExtension
	for _, dir := range c.cfg.Dirs {
		if path = readAgent(filepath.Join(dir, name)); path != "" {
			break
		}
	}
	if path == "" {
		return "", false
	}
	return path, c.IsUp(ctx, chain, path)
}

// IsUp reports whether a connection through the chain is up that goes by the agent at a path.
func (c *Client) IsUp(ctx context.Context, chain []*sshconfig.Host, agent string) bool {
	_, err := c.obtainUp(ctx, c.way(chain).withAgent(agent))
	return err == nil
}

// readAgent returns the path in a file. It is empty if there is no such file.
func readAgent(file string) string {
	if fi, err := os.Lstat(file); err != nil || !fi.Mode().IsRegular() || fi.Size() > maxAgentPath {
		return ""
	}
	text, err := os.ReadFile(file)
	if err != nil || !filepath.IsAbs(string(text)) {
		return ""
	}
	return string(text)
}

// noteAgent writes down which agent a way goes by, for processes that have none.
func (c *Client) noteAgent(dir string, w way) {
	path := w.agent()
	file := filepath.Join(dir, w.withAgent("").key()+agentExtension)
	if path == "" || !filepath.IsAbs(path) || readAgent(file) == path {
		return
	}
	hidden := file + "-" + nextNumber()
	err := os.WriteFile(hidden, []byte(path), 0o600)
	if err == nil {
		err = os.Rename(hidden, file)
	}
	if err != nil {
		os.Remove(hidden)
		c.cfg.Log.Debug("the agent is not noted for other processes", "err", err)
	}
}

// agent returns the agent that SSH_AUTH_SOCK leads to. It is empty if there is none, or if it has
// no part in the way.
func (w way) agent() string {
	for _, variable := range w.environ {
		if path, ok := strings.CutPrefix(variable, agentVariable+"="); ok && UsesAgent(w.chain) {
			return path
		}
	}
	return ""
}

// withAgent returns the way by another agent. An empty path means none.
func (w way) withAgent(path string) way {
	w.environ = slices.DeleteFunc(slices.Clone(w.environ), func(variable string) bool { return strings.HasPrefix(variable, agentVariable+"=") })
	if path != "" {
		w.environ = append(w.environ, agentVariable+"="+path)
		slices.SortFunc(w.environ, compareVariables)
	}
	return w
}
