package service

import (
	"context"
	"path/filepath"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
)

// unitName is the name of the unit of the user's systemd.
const unitName = "sallyport-callback.service"

// unit is what the text of the unit depends on, besides the program.
type unit struct {
	// isGraphical says that the session has graphical-session.target: see systemd.special(7).
	isGraphical bool
	// variables are NAME=VALUE, for what systemd does not know of itself.
	variables []string
}

// text returns the unit: see systemd.service(5).
func (u unit) text(p Program) string {
	var b strings.Builder
	line := func(words ...string) { b.WriteString(strings.Join(words, "") + "\n") }
	target := "default.target"
	line("# Written by: sallyport callback --service. To take it away: sallyport callback --service --remove")
	line("[Unit]")
	line("Description=", strings.ReplaceAll(p.Description, "%", "%%"))
	if u.isGraphical {
		target = "graphical-session.target"
		line("# The desktop has told systemd its display by then.")
		line("After=", target)
		line("PartOf=", target)
	}
	line("# It is started again however often it has failed.")
	line("StartLimitIntervalSec=0")
	line()
	line("[Service]")
	words := []string{quoteUnit(p.Path, false)}
	for _, arg := range p.Args {
		words = append(words, quoteUnit(arg, true))
	}
	line("ExecStart=", strings.Join(words, " "))
	line("# Nobody is there who could answer a question.")
	line("Environment=SSH_ASKPASS_REQUIRE=never")
	for _, variable := range u.variables {
		line("Environment=", quoteUnit(variable, false))
	}
	line("Restart=on-failure")
	line("RestartSec=10")
	line("# A wrong flag stays wrong, and 130 is the status after a stop.")
	line("RestartPreventExitStatus=2")
	line("SuccessExitStatus=130")
	line("# The browser that it has started, and the shared connection, live on without it.")
	line("KillMode=process")
	line()
	line("[Install]")
	line("WantedBy=", target)
	return b.String()
}

// quoteUnit quotes a word. In the arguments of a command, systemd expands variables as well.
func quoteUnit(word string, isArgument bool) string {
	pairs := []string{`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "%", "%%"}
	if isArgument {
		pairs = append(pairs, "$", "$$")
	}
	return `"` + strings.NewReplacer(pairs...).Replace(word) + `"`
}

// unitPath is where the user's units lie.
func (m Machine) unitPath() string {
	dir := m.Env.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		dir = environment.Under(m.Env.Home, ".config")
	}
	return environment.Under(dir, "systemd", "user", unitName)
}

// systemctl runs systemctl for the user's systemd.
func (m Machine) systemctl(ctx context.Context, args ...string) (string, error) {
	return m.Run(ctx, "systemctl", append([]string{"--user"}, args...)...)
}

// installUnit writes the unit, enables and starts it.
func (m Machine) installUnit(ctx context.Context, p Program) (Report, error) {
	if _, err := m.Run(ctx, "systemctl", "--version"); err != nil {
		return Report{}, &UnsupportedError{OS: m.OS, Line: commandLine(p)}
	}
	known, busErr := m.systemctl(ctx, "show-environment")
	active, _ := m.systemctl(ctx, "is-active", "graphical-session.target")
	u := unit{isGraphical: strings.TrimSpace(active) == "active"}
	r := Report{Place: m.unitPath()}
	u.variables, r.Notes = m.unitVariables(known, u.isGraphical)
	r.Text = u.text(p)
	if err := write(r.Place, r.Text); err != nil {
		return r, err
	}
	if busErr != nil {
		r.Notes = append(r.Notes, note(known, busErr, "systemctl", "--user", "show-environment"),
			"in a terminal of your desktop, type: systemctl --user enable --now "+unitName)
		return r, nil
	}
	// restart, because another one may run.
	for _, args := range [][]string{{"daemon-reload"}, {"enable", unitName}, {"restart", unitName}} {
		if out, err := m.systemctl(ctx, args...); err != nil {
			r.Notes = append(r.Notes, note(out, err, "systemctl --user", args...))
			return r, nil
		}
	}
	r.Running = true
	r.Notes = append(r.Notes, "its words: journalctl --user -u "+unitName)
	return r, nil
}

// sessionVariables tell a browser where its windows appear.
var sessionVariables = []string{"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"}

// unitVariables returns the variables that the unit needs from this terminal. The argument known is
// what systemd's own environment is. A desktop puts its variables there; where it has not, those of
// now have to do. systemd itself sets the address of the session bus.
func (m Machine) unitVariables(known string, isGraphical bool) (variables, notes []string) {
	isKnown := func(name string) bool { return strings.Contains("\n"+known, "\n"+name+"=") }
	for _, name := range sessionVariables {
		if value := m.Env.Getenv(name); value != "" && !isGraphical && !isKnown(name) {
			variables = append(variables, name+"="+value)
		}
	}
	agent := m.Env.Getenv("SSH_AUTH_SOCK")
	switch {
	case agent == "" || isKnown("SSH_AUTH_SOCK"):
	case strings.HasPrefix(agent, "/tmp/"):
		notes = append(notes, "the SSH agent of this terminal ("+agent+") may end with it, so the service does not use it")
	default:
		variables = append(variables, "SSH_AUTH_SOCK="+agent)
	}
	return variables, notes
}

// removeUnit stops the unit and takes it away.
func (m Machine) removeUnit(ctx context.Context) (Report, error) {
	path := m.unitPath()
	if !exists(path) {
		return Report{}, nil
	}
	r := Report{Place: path}
	if out, err := m.systemctl(ctx, "disable", "--now", unitName); err != nil {
		r.Notes = append(r.Notes, note(out, err, "systemctl", "--user", "disable", "--now", unitName))
	}
	if _, err := remove(path); err != nil {
		return r, err
	}
	m.systemctl(ctx, "daemon-reload") // if that fails, systemd reads its units again at the next log-on
	return r, nil
}
