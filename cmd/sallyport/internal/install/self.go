package install

import (
	"os"
	"path/filepath"
	"strings"
)

// Self returns the path of this program that a host can be given, and what is wrong with it: text
// for a person, empty if nothing is. The name in PATH counts more than what the system calls the
// running program, because a package manager moves the file that the name leads to. The path is
// empty if go run has built the program for this one run.
func Self(p Place) (path, warning string) {
	running := p.Env.Executable
	if running == "" || strings.Contains(filepath.ToSlash(running), "/go-build") {
		return "", ""
	}
	path = running
	if named := p.LookPath("sallyport"); named != "" {
		a, errA := os.Stat(named)
		b, errB := os.Stat(running)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			path = named
		}
	}
	slashes := filepath.ToSlash(path)
	for _, dir := range []string{filepath.ToSlash(os.TempDir()), "/tmp", "/var/tmp", "/dev/shm"} {
		if strings.HasPrefix(slashes, dir+"/") {
			return path, "it lies in " + dir + ", where the system removes files"
		}
	}
	if strings.Contains(slashes, "/_npx/") {
		return path, "it lies in the cache of npx, which is emptied"
	}
	return path, ""
}

// Wanted lists the variables of a host's environment that sallyport needs: always those of the
// keyring, the sockets and the browser, those of SSH if it is used, and what else is set. The names
// in referenced are those of variables that headers refer to.
func Wanted(p Place, usesSSH bool, referenced []string) []string {
	var wanted []string
	if usesSSH && p.GOOS != "windows" {
		wanted = append(wanted, "SSH_AUTH_SOCK")
	}
	if p.GOOS != "windows" && p.GOOS != "darwin" {
		wanted = append(wanted, "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY")
	}
	for _, name := range []string{
		"XAUTHORITY", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "BROWSER", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE",
		"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy",
	} {
		if p.Env.Getenv(name) != "" {
			wanted = append(wanted, name)
		}
	}
	return append(wanted, referenced...)
}
