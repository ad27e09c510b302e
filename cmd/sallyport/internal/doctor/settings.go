package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"sallyport/cmd/sallyport/internal/session"
	"sallyport/sshtunnel"
	"sallyport/sshtunnel/sshconfig"
)

// settingRows makes the rows of the settings, and opens the session.
type settingRows struct{ *walk }

// open builds the session, which reads the settings and ssh_config and touches no network. It makes
// the rows of both.
func (w settingRows) open(ctx context.Context) {
	w.begin(idSettings)
	s, err := w.openSession(ctx)
	_, isConfig := errors.AsType[*sshconfig.Error](err)
	_, isDNS := errors.AsType[*net.DNSError](err) // of CanonicalizeHostname
	if err != nil && !isConfig && !isDNS {
		w.why = "the settings cannot be used"
		w.fail(idSettings, err, w.given()...)
		return
	}
	w.tellSettings()
	if err != nil {
		w.why = "ssh_config cannot be used"
		w.fail(idConfig, err)
		return
	}
	w.s = s
	w.report.Upstream = session.PlainURL(s.Upstream)
	w.tellChains(ctx)
}

// given words the settings that the person has made, and where.
func (w settingRows) given() []string {
	var lines []string
	for _, g := range w.Command.Given {
		lines = append(lines, fmt.Sprintf("%s %s (%s)", g.Name, g.Value, g.From))
	}
	return append(lines, w.Command.Warnings...)
}

// tellSettings makes the row of settings that can be used.
func (w settingRows) tellSettings() {
	given := len(w.Command.Given)
	summary := fmt.Sprintf("%s made, the others are defaults", count(given, "setting"))
	if given > 0 {
		summary += ": " + strings.Join(w.given()[:given], ", ")
	}
	if len(w.Command.Warnings) > 0 {
		w.add(Check{ID: idSettings, Result: Warn, Summary: summary + "; " + w.Command.Warnings[0], Evidence: w.given()})
		return
	}
	w.ok(idSettings, summary, w.given()...)
}

// tellChains reads the hosts of each tunnel, and makes the row of ssh_config.
func (w settingRows) tellChains(ctx context.Context) {
	w.begin(idConfig)
	tunnels := []*sshtunnel.Tunnel{w.s.Tunnel, w.s.CallbackTunnel}
	if w.s.Tunnel == nil {
		tunnels = tunnels[1:]
	}
	if len(w.chains) == 0 {
		w.skip(idConfig, "there is no --via: requests leave this machine directly")
		return
	}
	var ways []string
	for i, c := range w.chains {
		c.tunnel = tunnels[i]
		hosts, err := c.read(ctx)
		if err != nil {
			w.why = "ssh_config cannot be used"
			w.fail(idConfig, err)
			return
		}
		c.hosts = hosts
		w.report.hosts = append(w.report.hosts, hosts...)
		way := "here"
		for _, h := range hosts {
			way += " > " + h.Alias
		}
		ways = append(ways, way)
	}
	w.tellConfig(strings.Join(ways, "; "))
}

// tellConfig makes the row of an ssh_config that can be used.
func (w settingRows) tellConfig(ways string) {
	lines, unknown := w.skipped.told()
	if unknown == "" {
		w.ok(idConfig, ways, lines...)
		return
	}
	w.add(Check{ID: idConfig, Result: Warn, Summary: ways + "; " + unknown, Evidence: lines, Next: []string{
		"correct the keyword; ssh refuses such a file, unless IgnoreUnknown names the keyword",
	}})
}
