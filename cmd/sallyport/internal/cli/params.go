package cli

import (
	"fmt"
	"strings"
)

// ownFlags names the flag that sets a parameter of the authorize URL, where there is one.
var ownFlags = map[string]string{
	"scope": "scope", "resource": "resource", "audience": "audience", "client_id": "client-id",
}

// AuthorizeParams reads the values of --authorize-param. The error is a *UsageError. It names a
// parameter and never its value.
func (r Request) AuthorizeParams() (map[string]string, error) {
	params := map[string]string{}
	for i, text := range r.AuthorizeParam {
		name, value, ok := strings.Cut(text, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, &UsageError{
				Text:  fmt.Sprintf("authorize parameter %d: want NAME=VALUE", i+1),
				Hints: []string{"--authorize-param (SALLYPORT_AUTHORIZE_PARAM, one a line), such as prompt=consent"},
			}
		}
		if _, twice := params[name]; twice {
			return nil, &UsageError{Text: fmt.Sprintf("--authorize-param %s is given twice", name)}
		}
		if flag, ok := ownFlags[name]; ok {
			return nil, &UsageError{
				Text:  fmt.Sprintf("--authorize-param cannot set %s, a parameter of the protocol", name),
				Hints: []string{"use --" + flag},
			}
		}
		params[name] = value
	}
	return params, nil
}
