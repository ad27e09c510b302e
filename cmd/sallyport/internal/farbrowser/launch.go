package farbrowser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
)

const (
	// startWait bounds how long a browser takes until it asks for the login page. A cold start of a
	// snap takes the longest.
	startWait = 45 * time.Second
	// joinWait is the same for a browser that runs already.
	joinWait = 10 * time.Second
)

var (
	// errEnded says that a browser ended before it asked for the login page: it could not start.
	errEnded = errors.New("it ended before it asked for the login page")
	// errSilent says that a browser was started, or got the link, and did not ask for the page.
	errSilent = errors.New("it was started and has not asked for the login page")
)

// launcher opens a browser at a link whose connections go to a proxy.
type launcher struct {
	browser browser
	profile *profile
	// link is what the browser opens.
	link string
	// hosts are those that the PAC file sends to the proxy whatever their scheme.
	hosts []string
	proxy *proxy
	// joining says that a browser has the profile open and gets the link.
	joining bool
}

// open opens a new tab in the browser that has the profile open, or else starts one. It returns
// when the browser has asked for the login page. The browser outlives ctx.
func (l *launcher) open(ctx context.Context) error {
	dir, firefox := l.profile.dir, l.browser.firefox
	if isOpen(dir, firefox) {
		err := l.join(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		l.proxy.log.Debug("the open browser did not take the link", "browser", l.browser.name, "err", err)
		if !l.profile.isIdle(ctx) || !closeLeftover(ctx, dir, firefox) {
			return errInUse
		}
	}
	file, port, err := reserve()
	if err != nil {
		return err
	}
	if file != nil {
		defer file.Close()
	}
	return l.serveAnd(port, func(addr string) error {
		if _, port, err := net.SplitHostPort(addr); err == nil {
			if n, err := strconv.Atoi(port); err == nil {
				l.profile.savePort(n) // without it, the next login starts the browser again
			}
		}
		return l.start(ctx, addr, file)
	})
}

// join gives the link to the browser that has the profile open. Its PAC file names the port of the
// login that started it, so the proxy has to be there.
//
// That login may be under way still. Then both proxies listen at the port, and the kernel gives
// each connection to one of them: both lead to the same far side. (Windows lets one listen.)
func (l *launcher) join(ctx context.Context) error {
	if l.browser.firefox {
		// It finds the open one by D-Bus or the display alone, and else asks the person.
		return errors.New("a window of Firefox is not joined")
	}
	port := l.profile.loadPort()
	if port == 0 {
		return errors.New("its port is not known")
	}
	l.joining = true
	defer func() { l.joining = false }()
	return l.serveAnd(port, func(addr string) error { return l.start(ctx, addr, nil) })
}

// serveAnd has the proxy serve at a port while do runs, and afterwards if that succeeds.
func (l *launcher) serveAnd(port int, do func(addr string) error) error {
	addr, stop, err := l.proxy.serve(port)
	if err != nil {
		return err
	}
	if err := do(addr); err != nil {
		stop()
		return err
	}
	return nil
}

// start runs the browser's program, which inherits file, and waits.
func (l *launcher) start(ctx context.Context, addr string, file *os.File) error {
	args, err := l.arrange(pacForProfile(addr, l.hosts))
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // a login that was withdrawn in the meantime opens no page
		return context.Cause(ctx)
	}
	// Not CommandContext: the last page tells how the login ended.
	cmd := exec.Command(args[0], args[1:]...)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	if err := localsock.StartDetached(cmd); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the program, and reaps it
	wait := startWait
	if l.joining {
		wait = joinWait
	}
	timeout := time.After(wait)
	for {
		select {
		case <-l.proxy.asked:
			return nil
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("%w (%w)", errEnded, err)
			}
			// It gave the link to the one that runs. That one may ask the proxy of another login,
			// so there is nothing to wait for, unless its PAC file may lack a host of ours.
			if l.joining && len(l.hosts) == 0 {
				return nil
			}
			ended = nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timeout:
			return errSilent
		}
	}
}

// arrange prepares the profile and returns the command.
func (l *launcher) arrange(pac string) ([]string, error) {
	args := slices.Clone(l.browser.command)
	if l.browser.firefox {
		return append(args, "--new-instance", "--profile", l.profile.dir, l.link), writeUserJS(l.profile.dir, pac)
	}
	if err := writePreferences(l.profile.dir); err != nil {
		return nil, err
	}
	args = append(args, "--user-data-dir="+l.profile.dir, "--proxy-pac-url="+pac)
	return append(append(args, chromiumFlags...), l.link), nil
}

// chromiumFlags turn off what a window for one login has no use for: questions of a first start,
// and what a browser asks its maker by itself. The far side would learn of that wherever this
// machine does not reach the maker. The lists of Safe Browsing are not updated either.
var chromiumFlags = []string{
	"--no-first-run",
	"--no-default-browser-check",
	"--no-pings",
	"--no-service-autorun",
	"--disable-background-mode",
	"--disable-background-networking",
	"--disable-breakpad",
	"--disable-component-update",
	"--disable-default-apps",
	"--disable-client-side-phishing-detection",
	"--disable-domain-reliability",
	"--disable-features=AutofillServerCommunication,MediaRouter,OptimizationHints,Translate",
	"--disable-search-engine-choice-screen",
	"--disable-sync",
	"--hide-crash-restore-bubble",
	"--metrics-recording-only",
}

// preferences are those of a new profile of Chromium's family.
var preferences = map[string]any{
	"browser":                    map[string]any{"check_default_browser": false, "has_seen_welcome_page": true},
	"credentials_enable_service": false,
	"autofill":                   map[string]any{"profile_enabled": false, "credit_card_enabled": false},
	"signin":                     map[string]any{"allowed": false},
	"translate":                  map[string]any{"enabled": false},
	// 2 is never: no connections to hosts that no page has asked for.
	"net":     map[string]any{"network_prediction_options": 2},
	"search":  map[string]any{"suggest_enabled": false},
	"session": map[string]any{"restore_on_startup": 5}, // a new tab
}

// writePreferences gives a new profile its preferences. Those of an old one are the browser's.
func writePreferences(dir string) error {
	dir = filepath.Join(dir, "Default")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(preferences)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(dir, "Preferences"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// firefoxPreferences are Firefox's, besides the address of the PAC file.
var firefoxPreferences = map[string]any{
	"network.proxy.type":                                          2, // a PAC file
	"network.proxy.allow_hijacking_localhost":                     false,
	"network.proxy.failover_direct":                               false,
	"network.captive-portal-service.enabled":                      false,
	"network.connectivity-service.enabled":                        false,
	"network.predictor.enabled":                                   false,
	"network.prefetch-next":                                       false,
	"network.dns.disablePrefetch":                                 true,
	"app.normandy.enabled":                                        false,
	"app.shield.optoutstudies.enabled":                            false,
	"browser.aboutwelcome.enabled":                                false,
	"browser.preonboarding.enabled":                               false,
	"browser.discovery.enabled":                                   false,
	"browser.sessionstore.resume_from_crash":                      false,
	"browser.shell.checkDefaultBrowser":                           false,
	"browser.startup.homepage_override.mstone":                    "ignore",
	"browser.startup.page":                                        0,
	"browser.tabs.warnOnClose":                                    false,
	"browser.newtabpage.activity-stream.feeds.telemetry":          false,
	"browser.newtabpage.activity-stream.telemetry":                false,
	"browser.newtabpage.activity-stream.feeds.topsites":           false,
	"browser.newtabpage.activity-stream.feeds.section.topstories": false,
	"datareporting.healthreport.uploadEnabled":                    false,
	"datareporting.policy.dataSubmissionEnabled":                  false,
	"datareporting.usage.uploadEnabled":                           false,
	"signon.rememberSignons":                                      false,
	"startup.homepage_welcome_url":                                "",
	"toolkit.telemetry.enabled":                                   false,
	"toolkit.telemetry.unified":                                   false,
	"trailhead.firstrun.didSeeAboutWelcome":                       true,
}

// writeUserJS writes the preferences that Firefox reads at each start.
func writeUserJS(dir, pac string) error {
	var b strings.Builder
	for name, value := range firefoxPreferences {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "user_pref(%q, %s);\n", name, text)
	}
	fmt.Fprintf(&b, "user_pref(\"network.proxy.autoconfig_url\", %q);\n", pac)
	return os.WriteFile(filepath.Join(dir, "user.js"), []byte(b.String()), 0o600)
}
