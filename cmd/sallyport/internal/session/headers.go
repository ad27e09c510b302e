package session

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/environment"

	"golang.org/x/net/http/httpguts"
)

// headers returns the extra headers, with ${VARIABLE} expanded, and their values as secrets. An
// error names a header by its place, because its text may be a secret.
func headers(settings cli.Upstream, env environment.Environment) (http.Header, []string, error) {
	h := &headerList{env: env, header: http.Header{}}
	for i, text := range settings.Header {
		if err := h.add(fmt.Sprintf("header %d", i+1), text); err != nil {
			return nil, nil, err
		}
	}
	if settings.HeaderFile != "" {
		if err := h.addFile(settings.HeaderFile); err != nil {
			return nil, nil, err
		}
	}
	return h.header, h.secrets, nil
}

// headerList collects headers.
type headerList struct {
	// env gives the variables, and hides those of secrets from child processes.
	env environment.Environment
	// header holds the headers so far.
	header http.Header
	// secrets are their values, to be masked in text of the upstream.
	secrets []string
}

// addFile adds the headers of the file at path, one on a line.
func (h *headerList) addFile(path string) error {
	text, err := readSmallFile(path)
	if err != nil {
		return &cli.UsageError{
			Text:  "header file: " + err.Error(),
			Hints: []string{"--header-file names a file with one 'Name: value' a line"},
		}
	}
	number := 0
	// Editors on Windows put a byte order mark in front of the first line.
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := h.add(fmt.Sprintf("%s: line %d", path, number), line); err != nil {
			return err
		}
	}
	return nil
}

// add adds the header 'Name: value', which stands at place.
func (h *headerList) add(place, text string) error {
	name, value, ok := strings.Cut(text, ":")
	if name = strings.TrimSpace(name); !ok || !httpguts.ValidHeaderFieldName(name) {
		return &cli.UsageError{
			Text:  place + ": want 'Name: value'",
			Hints: []string{"--header (SALLYPORT_HEADER, one a line), or a line of --header-file"},
		}
	}
	value, missing := h.expand(name, strings.TrimSpace(value))
	if missing != "" {
		return &cli.UsageError{
			Text:  fmt.Sprintf("header %s: variable %s is not set", name, missing),
			Hints: []string{"set it where the MCP host starts sallyport (its \"env\" block)"},
		}
	}
	if !httpguts.ValidHeaderFieldValue(value) {
		return &cli.UsageError{Text: fmt.Sprintf("header %s: the value holds a character that HTTP does not allow", name)}
	}
	h.header.Add(name, value)
	// A server may quote the credentials without the scheme in front of them.
	h.secrets = append(h.secrets, value)
	if _, credentials, ok := strings.Cut(value, " "); ok && strings.EqualFold(name, "Authorization") {
		h.secrets = append(h.secrets, credentials)
	}
	return nil
}

// expand replaces each ${VARIABLE} in the value of the header name. It returns the name of the
// first variable that is not set, or "".
func (h *headerList) expand(name, value string) (expanded, missing string) {
	expanded = cli.VariableReference().ReplaceAllStringFunc(value, func(reference string) string {
		variable := cli.VariableReference().FindStringSubmatch(reference)[1]
		// Child processes need HOME and its like, so only what looks like a secret is hidden from
		// them.
		if cli.IsSecretName(name) || cli.IsSecretName(variable) {
			h.env.Hide(variable)
		}
		if h.env.Getenv(variable) == "" {
			missing = cmp.Or(missing, variable)
		}
		return h.env.Getenv(variable)
	})
	return expanded, missing
}
