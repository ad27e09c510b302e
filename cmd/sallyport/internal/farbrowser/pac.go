package farbrowser

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// pacType is the media type of a PAC file.
const pacType = "application/x-ns-proxy-autoconfig"

// pacForProfile is the PAC file of a browser with our profile. What is not encrypted goes to the
// proxy only for the host of the login page. Every https and wss URL with a host name does, and the
// proxy decides for each host: a browser reads its PAC file once, before anybody knows where the
// login leads. After until, the proxy is gone and everything is DIRECT, so that nobody who takes
// its port later gets anything.
//
// Loopback is DIRECT in browsers whatever a PAC file says (Chromium's implicit bypass rules,
// Firefox's network.proxy.allow_hijacking_localhost). The file says so too.
const pacForProfile = `function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\.$/, "");
  if (%[3]d < new Date().getTime()) return "DIRECT";
  if (%[2]s.indexOf(host) >= 0) return "PROXY %[1]s";
  if (!/^(https|wss):/i.test(url)) return "DIRECT";
  if (host.indexOf(":") >= 0 || /(^|\.)(0x[0-9a-f]*|[0-9]+|localhost)$/.test(host)) return "DIRECT";
  return "PROXY %[1]s";
}
`

// pacForPerson is the PAC file that a person gives to a browser of theirs. It sends the proxy
// nothing but the hosts that are known to be reached through the far side alone.
const pacForPerson = `function FindProxyForURL(url, host) {
  host = host.toLowerCase().replace(/\.$/, "");
  if (%[3]d < new Date().getTime()) return "DIRECT";
  return %[2]s.indexOf(host) >= 0 ? "PROXY %[1]s" : "DIRECT";
}
`

// pacText fills in a PAC file: the proxy's host:port, the hosts that always go there, and when it
// ends.
func pacText(format, proxy string, hosts []string, until time.Time) string {
	quoted := make([]string, len(hosts))
	for i, host := range slices.Sorted(slices.Values(hosts)) {
		text, _ := json.Marshal(host) // a string of JSON is one of JavaScript
		quoted[i] = string(text)
	}
	return fmt.Sprintf(format, proxy, "["+strings.Join(quoted, ", ")+"]", until.UnixMilli())
}
