package farbrowser

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pacType is the media type of a PAC file.
const pacType = "application/x-ns-proxy-autoconfig"

// profileFormat is the PAC file of a browser with our profile, without the proxy and the hosts that
// go there whatever their scheme. Each https or wss URL with a host name goes to the proxy, and the
// proxy decides for each host: a browser reads its PAC file once, before anybody knows where the
// login leads.
//
// Loopback is DIRECT in browsers whatever a PAC file says (Chromium's implicit bypass rules,
// Firefox's network.proxy.allow_hijacking_localhost). The file says so too. What the browser asks
// its maker by itself is DIRECT, so that the far side does not learn of it.
const profileFormat = `function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\.$/, "");
  if (%[2]s.indexOf(host) >= 0) return "PROXY %[1]s";
  if (!/^(https|wss):/i.test(url)) return "DIRECT";
  if (host.indexOf(":") >= 0 || /(^|\.)(0x[0-9a-f]*|[0-9]+|localhost)$/.test(host)) return "DIRECT";
  if (/%[3]s/.test(host)) return "DIRECT";
  return "PROXY %[1]s";
}
`

// makerHosts matches what browsers ask their makers by themselves: updates, lists, the time. No
// login needs these hosts.
const makerHosts = `(^|\.)(gvt[12]\.com|(services|prod\.cdn)\.mozilla\.com|cdn\.mozilla\.net|edge\.microsoft\.com|edge\.skype\.com` +
	`|(brave|vivaldi)\.com|bravesoftware\.com)$|^(clients[0-9]*|safebrowsing|dl)\.google\.com$` +
	`|^(update|safebrowsing|content-autofill|optimizationguide-pa|passwordsleakcheck-pa|edgedl\.me)\.(googleapis|gvt1)\.com$` +
	`|^(ads|push|detectportal|aus5|addons|versioncheck-bg\.addons)\.(mozilla\.org|firefox\.com)$`

// pacForProfile returns a PAC file as a URL. It is no file of ours on loopback, because a browser
// reads such a file again when the network changes, and after the login nobody would serve it. The
// hosts are those that the proxy carries without TLS or by their address.
func pacForProfile(proxy string, hosts []string) string {
	text := fmt.Sprintf(profileFormat, proxy, list(hosts), makerHosts)
	return "data:" + pacType + ";base64," + base64.StdEncoding.EncodeToString([]byte(text))
}

// personFormat is the PAC file that a person gives to a browser of theirs. It sends the proxy
// nothing but the hosts that are known to be reached through the far side alone, and after a time
// nothing at all: by then somebody else may have the proxy's port.
const personFormat = `function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\.$/, "");
  if (%[3]d < new Date().getTime()) return "DIRECT";
  return %[2]s.indexOf(host) >= 0 ? "PROXY %[1]s" : "DIRECT";
}
`

// pacForPerson returns the text of such a file.
func pacForPerson(proxy string, hosts []string, until time.Time) string {
	return fmt.Sprintf(personFormat, proxy, list(hosts), until.UnixMilli())
}

// list writes hosts as an array of JavaScript.
func list(hosts []string) string {
	quoted := make([]string, 0, len(hosts))
	for _, host := range slices.Compact(slices.Sorted(slices.Values(hosts))) {
		text, _ := json.Marshal(host) // a string of JSON is one of JavaScript
		quoted = append(quoted, string(text))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
