package userkeys

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh/agent"

	"sallyport/sshtunnel/display"
)

// addToAgent does AddKeysToAgent for the key of a file that is being used. As with ssh, that is
// done once, and it does not matter if the agent or the person does not want it.
func (c *collector) addToAgent(f *keyFile) {
	add := parseAddKeys(c.Host.AddKeysToAgent)
	if !add.wanted || c.Agent == nil || f.private.private == nil || f.added {
		return
	}
	// A refusal counts as well: the person is asked once for each key.
	f.added = true
	comment := cmp.Or(f.comment, f.path)
	if add.ask {
		answer, err := c.Ask("add-key", fmt.Sprintf("Add key %s (%s) to agent? ", f.path, display.Printable(comment)), true)
		// Enter alone is a yes here (ask_permission in OpenSSH).
		if answer = strings.TrimSpace(answer); err != nil || answer != "" && !strings.EqualFold(answer, "yes") {
			return
		}
	}
	err := c.Agent.client.Add(agent.AddedKey{
		PrivateKey:       f.private.private,
		Comment:          comment,
		LifetimeSecs:     add.lifetime,
		ConfirmBeforeUse: add.confirm,
	})
	if err != nil {
		c.Log.Warn("key not added to the agent", "hop", c.Host.Alias, "file", f.path, "err", err)
		return
	}
	c.Log.Info("key added to the agent", "hop", c.Host.Alias, "file", f.path)
}

// addKeys is what AddKeysToAgent asks for.
type addKeys struct {
	// wanted says that the key is to be added at all.
	wanted bool
	// ask the person first.
	ask bool
	// confirm makes the agent ask before each use of the key.
	confirm bool
	// lifetime is in seconds. 0 means that the agent keeps the key.
	lifetime uint32
}

// parseAddKeys takes Host.AddKeysToAgent apart.
func parseAddKeys(s string) addKeys {
	word, rest, _ := strings.Cut(s, " ")
	switch word {
	case "", "no":
		return addKeys{}
	case "yes":
		return addKeys{wanted: true}
	case "ask":
		return addKeys{wanted: true, ask: true}
	}
	a := addKeys{confirm: word == "confirm"}
	if a.confirm {
		word = rest
	}
	seconds, err := strconv.ParseUint(cmp.Or(word, "0"), 10, 32)
	a.lifetime, a.wanted = uint32(seconds), err == nil
	return a
}
