package cli

import (
	"fmt"
	"strings"
)

// ownFlags names the flag that sets a parameter of the authorize URL, where there is one.
var ownFlags = map[string]string{
	"scope": "scope", "resource": "resource", "audience": "audience", "client_id": "client-id",
}

// AuthorizeParams reads the values of --authorize-param. A value may also be a JSON object of
// strings, as OAUTH2_EXTRA_PARAMS is. The error is a *UsageError, which names a parameter and never
// shows its value.
func (r Request) AuthorizeParams() (map[string]string, error) {
	params := map[string]string{}
	for i, text := range r.AuthorizeParam {
		given := StringMap{}
		if name, value, ok := strings.Cut(text, "="); ok && !strings.HasPrefix(text, "{") {
			given[strings.TrimSpace(name)] = value
		} else if given.UnmarshalText([]byte(text)) != nil {
			given[""] = ""
		}
		for name, value := range given {
			if err := checkParam(i+1, name); err != nil {
				return nil, err
			}
			if _, twice := params[name]; twice {
				return nil, &UsageError{Text: fmt.Sprintf("--authorize-param %s is given twice", name)}
			}
			params[name] = value
		}
	}
	return params, nil
}

// checkParam refuses a parameter without a name, and one that has a flag of its own. The number is
// its place on the command line.
func checkParam(number int, name string) error {
	if name == "" {
		return &UsageError{
			Text:  fmt.Sprintf("authorize parameter %d: want NAME=VALUE", number),
			Hints: []string{"--authorize-param (SALLYPORT_AUTHORIZE_PARAM, one a line), such as prompt=consent"},
		}
	}
	if flag, ok := ownFlags[name]; ok {
		return &UsageError{
			Text:  fmt.Sprintf("--authorize-param cannot set %s, a parameter of the protocol", name),
			Hints: []string{"use --" + flag},
		}
	}
	return nil
}
