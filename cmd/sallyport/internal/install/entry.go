package install

import "slices"

// Entry is a server in a host's configuration: the program that the host starts, and with what.
type Entry struct {
	// Name is that of the server in the host. The names of its tools begin with it.
	Name string
	// Command is the full path of the program.
	Command string
	// Args are its arguments.
	Args []string
	// Env are variables that the host sets for it, with their values.
	Env object
	// Pass names variables of the host's own environment that the program needs. A form writes
	// them only if its host would keep them back.
	Pass []string
}

// A member is a key of an object with its value: a string, a bool, a []string, or an object, which
// is a []member.
type member struct {
	key   string
	value any
}

// object is a value with members in the order in which they are written.
type object []member

// plain returns a value as encoding/json would decode it.
func plain(value any) any {
	switch value := value.(type) {
	case object:
		m := map[string]any{}
		for _, member := range value {
			m[member.key] = plain(member.value)
		}
		return m
	case []string:
		list := make([]any, len(value))
		for i := range value {
			list[i] = value[i]
		}
		return list
	}
	return value
}

// Server is a server as a host's configuration has it.
type Server struct {
	// Name is its name in the host.
	Name string
	// Command is the program and its arguments. It is nil for a server that the host reaches
	// itself.
	Command []string
	// Env are the variables that the host sets for it.
	Env map[string]string
	// Pass names variables of the host's own environment that it is told to pass on.
	Pass []string
	// URL is that of a server that the host reaches itself.
	URL string
	// Disabled says that the host does not start it.
	Disabled bool
	// value is the whole of it, decoded.
	value map[string]any
}

// newServer reads a decoded server. The forms of all hosts are tried, because no key means two
// things in two of them.
func newServer(name string, value map[string]any) Server {
	s := Server{Name: name, value: value, Env: map[string]string{}}
	if inner, ok := value["transport"].(map[string]any); ok { // Cline's
		value = inner
	}
	switch command := value["command"].(type) {
	case string:
		s.Command = append([]string{command}, textList(value["args"])...)
	case []any: // opencode's
		s.Command = textList(command)
	}
	s.Pass = textList(value["env_vars"]) // Codex's
	for _, key := range []string{"env", "environment"} {
		variables, _ := value[key].(map[string]any)
		for variable, text := range variables {
			s.Env[variable], _ = text.(string)
		}
	}
	for _, key := range []string{"url", "httpUrl", "serverUrl", "baseUrl"} {
		if url, ok := value[key].(string); ok {
			s.URL = url
		}
	}
	disabled, _ := s.value["disabled"].(bool)
	enabled, ok := s.value["enabled"].(bool)
	s.Disabled = disabled || ok && !enabled
	return s
}

// textList returns the texts of a decoded list.
func textList(value any) []string {
	var texts []string
	list, _ := value.([]any)
	for _, element := range list {
		text, _ := element.(string)
		texts = append(texts, text)
	}
	return texts
}

// has reports whether the server has all members of an object, with these values. Others that it
// has besides do not count: the host or the person has added them.
func has(value map[string]any, want object) bool {
	return !slices.ContainsFunc(want, func(m member) bool {
		inner, isObject := m.value.(object)
		if !isObject {
			return !equal(value[m.key], plain(m.value))
		}
		got, ok := value[m.key].(map[string]any)
		return !ok || !has(got, inner)
	})
}
