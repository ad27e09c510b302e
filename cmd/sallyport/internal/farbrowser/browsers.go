package farbrowser

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"sallyport/cmd/sallyport/internal/environment"
)

// browser is an installed browser.
type browser struct {
	// name is the browser's name for people.
	name string
	// id names its profiles in the state directory. Browsers of different makers cannot share one.
	id string
	// command starts it.
	command []string
	// firefox says that it is of Firefox's family, and else of Chromium's.
	firefox bool
	// confined is the directory below which a sandbox (snap, flatpak) lets it keep a profile. It is
	// empty without a sandbox: the profile then lies in the state directory.
	confined string
}

// kind is a browser that may be installed.
type kind struct {
	name, id string
	firefox  bool
	// programs are the names in PATH; snaps those of snap packages; flatpak is the name of the
	// application.
	programs, snaps []string
	flatpak         string
	// app is the bundle on macOS; exe the path of the program below a directory of programs on
	// Windows.
	app, exe string
}

// kinds are the browsers in the order in which they are tried.
var kinds = []kind{
	{name: "Google Chrome", id: "chrome", programs: []string{"google-chrome", "google-chrome-stable"}, flatpak: "com.google.Chrome",
		app: "Google Chrome", exe: `Google\Chrome\Application\chrome.exe`},
	{name: "Chromium", id: "chromium", programs: []string{"chromium", "chromium-browser", "ungoogled-chromium"}, snaps: []string{"chromium"},
		flatpak: "org.chromium.Chromium", app: "Chromium", exe: `Chromium\Application\chrome.exe`},
	{name: "Brave", id: "brave", programs: []string{"brave-browser", "brave", "brave-browser-stable"}, snaps: []string{"brave"},
		flatpak: "com.brave.Browser", app: "Brave Browser", exe: `BraveSoftware\Brave-Browser\Application\brave.exe`},
	{name: "Microsoft Edge", id: "edge", programs: []string{"microsoft-edge", "microsoft-edge-stable"}, flatpak: "com.microsoft.Edge",
		app: "Microsoft Edge", exe: `Microsoft\Edge\Application\msedge.exe`},
	{name: "Vivaldi", id: "vivaldi", programs: []string{"vivaldi", "vivaldi-stable"}, snaps: []string{"vivaldi"},
		flatpak: "com.vivaldi.Vivaldi", app: "Vivaldi", exe: `Vivaldi\Application\vivaldi.exe`},
	{name: "Firefox", id: "firefox", firefox: true, programs: []string{"firefox", "firefox-esr"}, snaps: []string{"firefox"},
		flatpak: "org.mozilla.firefox", app: "Firefox", exe: `Mozilla Firefox\firefox.exe`},
	{name: "LibreWolf", id: "librewolf", firefox: true, programs: []string{"librewolf"}, flatpak: "io.gitlab.librewolf-community",
		app: "LibreWolf", exe: `LibreWolf\librewolf.exe`},
}

// installed lists the browsers that can show a window on this machine, those of Chromium's family
// first.
func installed(env environment.Environment) []browser {
	if runtime.GOOS != "darwin" && runtime.GOOS != "windows" && env.Getenv("DISPLAY") == "" && env.Getenv("WAYLAND_DISPLAY") == "" {
		return nil
	}
	var all []browser
	for _, k := range kinds {
		if b, ok := k.find(env); ok {
			b.name, b.firefox = k.name, k.firefox
			all = append(all, b)
		}
	}
	return all
}

// preferred returns the browsers with those first that the person has named by their programs, or
// those alone. A program that no kind has is passed over: it may be a script that opens a browser
// of another machine, or with the person's own profile.
func preferred(all []browser, programs []string, only bool) []browser {
	var first []browser
	for _, program := range programs {
		i := slices.IndexFunc(all, func(b browser) bool { return kindOf(program) == b.name })
		if i < 0 || slices.ContainsFunc(first, func(b browser) bool { return b.id == all[i].id }) {
			continue
		}
		b := all[i]
		if path, err := exec.LookPath(program); err == nil && b.confined == "" {
			b.command = []string{path}
		}
		first = append(first, b)
	}
	if only && len(programs) > 0 {
		return first
	}
	for _, b := range all {
		if !slices.ContainsFunc(first, func(f browser) bool { return f.id == b.id }) {
			first = append(first, b)
		}
	}
	return first
}

// kindOf returns the name of the browser that a program is, by the name of its file, or of the file
// that a link leads to (as /usr/bin/x-www-browser does). It is empty if the program is none of the
// kinds.
func kindOf(program string) string {
	names := []string{program}
	if path, err := exec.LookPath(program); err == nil {
		if to, err := filepath.EvalSymlinks(path); err == nil {
			names = append(names, to)
		}
	}
	for _, name := range names {
		name = strings.TrimSuffix(strings.ToLower(filepath.Base(name)), ".exe")
		for _, k := range kinds {
			exe := strings.ToLower(k.exe[strings.LastIndexByte(k.exe, '\\')+1:])
			if slices.Contains(k.programs, name) || slices.Contains(k.snaps, name) || name == strings.ToLower(k.app) || name+".exe" == exe {
				return k.name
			}
		}
	}
	return ""
}

// find looks for the browser where this system has it.
func (k kind) find(env environment.Environment) (browser, bool) {
	switch runtime.GOOS {
	case "darwin":
		return k.findFile(filepath.Join(k.app+".app", "Contents", "MacOS", programInBundle(k.app)),
			"/Applications", environment.Under(env.Home, "Applications"))
	case "windows":
		return k.findFile(k.exe, env.Getenv("ProgramFiles"), env.Getenv("ProgramFiles(x86)"), env.Getenv("LocalAppData"))
	}
	// A program of Ubuntu in /usr/bin may only start the snap, which cannot write to the state
	// directory. So the snap comes first where there is one.
	for _, snap := range k.snaps {
		if path := filepath.Join("/snap/bin", snap); isFile(path) && env.Home != "" {
			return browser{id: k.id + "-snap", command: []string{path}, confined: filepath.Join(env.Home, "snap", snap, "common")}, true
		}
	}
	for _, program := range k.programs {
		if path, err := exec.LookPath(program); err == nil {
			return browser{id: k.id, command: []string{path}}, true
		}
	}
	for _, dir := range []string{environment.Under(env.Home, ".local", "share", "flatpak"), "/var/lib/flatpak"} {
		if path := environment.Under(dir, "exports", "bin", k.flatpak); path != "" && isFile(path) && env.Home != "" {
			return browser{id: k.id + "-flatpak", command: []string{path}, confined: filepath.Join(env.Home, ".var", "app", k.flatpak, "data")}, true
		}
	}
	return browser{}, false
}

// findFile looks for a program below directories, of which some may be unknown.
func (k kind) findFile(path string, dirs ...string) (browser, bool) {
	for _, dir := range dirs {
		if full := environment.Under(dir, path); full != "" && isFile(full) {
			return browser{id: k.id, command: []string{full}}, true
		}
	}
	return browser{}, false
}

// programInBundle is the name of the program in a bundle of macOS.
func programInBundle(app string) string {
	switch app {
	case "Firefox":
		return "firefox"
	case "LibreWolf":
		return "librewolf"
	}
	return app
}

// isFile reports whether path is a file, or leads to one.
func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}
