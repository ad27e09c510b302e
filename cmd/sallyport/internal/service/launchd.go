package service

import (
	"context"
	"html"
	"path/filepath"
	"strconv"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
)

// agentLabel is the name of the launch agent.
const agentLabel = "sallyport.callback"

// agentText returns the property list of the launch agent: see launchd.plist(5).
func agentText(p Program, logFile string) string {
	var b strings.Builder
	escape := html.EscapeString // its entities are XML's
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- Written by "sallyport callback" with the flag service. With the flag remove besides, it goes. -->
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>` + agentLabel + `</string>
	<key>ProgramArguments</key>
	<array>
`)
	for _, word := range append([]string{p.Path}, p.Args...) {
		b.WriteString("\t\t<string>" + escape(word) + "</string>\n")
	}
	b.WriteString(`	</array>
	<key>EnvironmentVariables</key>
	<dict>
		<key>SSH_ASKPASS_REQUIRE</key>
		<string>never</string>
	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ThrottleInterval</key>
	<integer>10</integer>
	<key>LimitLoadToSessionType</key>
	<string>Aqua</string>
	<key>AbandonProcessGroup</key>
	<true/>
	<key>StandardErrorPath</key>
	<string>` + escape(logFile) + `</string>
</dict>
</plist>
`)
	return b.String()
}

// agentPath is where the user's launch agents lie.
func (m Machine) agentPath() string {
	return environment.Under(m.Env.Home, "Library", "LaunchAgents", agentLabel+".plist")
}

// domain is launchd's name of the user's desktop.
func (m Machine) domain() string { return "gui/" + strconv.Itoa(m.UserID) }

// installAgent writes the launch agent and starts it.
func (m Machine) installAgent(ctx context.Context, p Program) (Report, error) {
	logFile := filepath.Join(m.Env.Home, "Library", "Logs", agentLabel+".log")
	r := Report{Place: m.agentPath(), Text: agentText(p, logFile)}
	if err := write(r.Place, r.Text); err != nil {
		return r, err
	}
	m.Run(ctx, "launchctl", "bootout", m.domain()+"/"+agentLabel) // an older one; it fails if there is none
	if out, err := m.Run(ctx, "launchctl", "bootstrap", m.domain(), r.Place); err != nil {
		r.Notes = append(r.Notes, note(out, err, "launchctl", "bootstrap", m.domain(), r.Place), "it starts at your next log-on")
		return r, nil
	}
	r.Running = true
	r.Notes = append(r.Notes, "its words: "+logFile)
	return r, nil
}

// removeAgent stops the launch agent and takes it away.
func (m Machine) removeAgent(ctx context.Context) (Report, error) {
	path := m.agentPath()
	if !exists(path) {
		return Report{}, nil
	}
	m.Run(ctx, "launchctl", "bootout", m.domain()+"/"+agentLabel) // it fails if it does not run
	_, err := remove(path)
	return Report{Place: path}, err
}
