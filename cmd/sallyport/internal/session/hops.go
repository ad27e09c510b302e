package session

import (
	"slices"

	"sallyport/sshtunnel/sshconfig"
)

// Hops are the hosts that the tunnels of a session pass, as ssh_config was when it was opened.
type Hops struct {
	// Via and Callback are the aliases of those that Tunnel and CallbackTunnel pass, in order.
	Via, Callback []string
	// programs are the aliases of those that are reached by a ProxyCommand.
	programs []string
}

// RunsProgram reports whether a hop is reached by a ProxyCommand, which may ask the person itself.
func (h *Hops) RunsProgram(alias string) bool { return slices.Contains(h.programs, alias) }

// namesOf returns the aliases of a chain, and keeps what RunsProgram tells of it.
func (h *Hops) namesOf(chain []*sshconfig.Host) (names []string) {
	for _, host := range chain {
		names = append(names, host.Alias)
		if host.ProxyCommand != "" {
			h.programs = append(h.programs, host.Alias)
		}
	}
	return names
}
