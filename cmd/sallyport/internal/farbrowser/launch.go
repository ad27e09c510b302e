package farbrowser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sallyport/cmd/sallyport/internal/localsock"
)

// startWait bounds how long a browser takes to read its PAC file. A cold start of a snap takes the
// longest.
const startWait = 45 * time.Second

// errHandedOver says that a browser ended before it read its PAC file: it could not start, or
// another one took the link.
var errHandedOver = errors.New("it ended before it read its PAC file")

// launch starts a browser with a profile at link, and returns when it has read its PAC file. The
// browser outlives ctx.
func launch(ctx context.Context, b browser, dir, link string, p *proxy) error {
	args, err := arrange(b, dir, link, p.profilePAC())
	if err != nil {
		return err
	}
	if ctx.Err() != nil { // a login that was withdrawn in the meantime opens no page
		return context.Cause(ctx)
	}
	// Not CommandContext: the last page tells how the login ended.
	cmd := exec.Command(args[0], args[1:]...)
	if err := localsock.StartDetached(cmd); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the browser, and reaps it
	select {
	case <-p.fetched:
		return nil
	case err := <-ended:
		return errors.Join(errHandedOver, err)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(startWait):
		return fmt.Errorf("it did not read its PAC file within %v", startWait)
	}
}

// arrange prepares a profile and returns the command that opens link with it.
func arrange(b browser, dir, link, pac string) ([]string, error) {
	if b.firefox {
		return append(b.command[:len(b.command):len(b.command)], "--new-instance", "--profile", dir, link), writeUserJS(dir, pac)
	}
	if err := writePreferences(dir); err != nil {
		return nil, err
	}
	args := append(b.command[:len(b.command):len(b.command)], "--user-data-dir="+dir, "--proxy-pac-url="+pac)
	args = append(args, chromiumFlags...)
	return append(args, link), nil
}

// chromiumFlags turn off what a window for one login has no use for: questions of a first start,
// and what a browser asks its maker by itself. The far side would learn of that wherever this
// machine does not reach the maker. The lists of Safe Browsing are not updated either.
var chromiumFlags = []string{
	"--new-window",
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
