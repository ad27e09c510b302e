package asclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

const (
	maxMembers = 1000    // of a document that are read
	maxList    = 500     // elements of a list that are read
	maxElement = 2 << 10 // bytes of an element of a list
	maxWords   = 8 << 10 // bytes of a list: its words may all have to fit into a URL
)

// document is a JSON object whose members are read one by one, each in any shape that its meaning
// can be told from. A member in another shape counts as absent, so that one odd member spoils
// nothing but itself.
type document struct {
	members map[string]json.RawMessage
	// odd lists the members that were asked for and could not be read.
	odd *[]string
}

// readDocument reads a JSON object, or a JSON string that holds one. What follows it is passed
// over, as is a byte order mark. It reports false if there is none.
func readDocument(body []byte) (document, bool) {
	d := document{make(map[string]json.RawMessage), new([]string)}
	body = withoutNotice(withoutMark(body))
	if s, ok := textOf(bytes.TrimSpace(body)); ok {
		body = []byte(s)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return document{}, false
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return document{}, false
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			return document{}, false
		}
		if name, ok := name.(string); ok && len(d.members) < maxMembers {
			d.members[name] = value
		}
	}
	_, err := decoder.Token()
	return d, err == nil
}

// withoutMark removes a byte order mark, and turns UTF-16 with such a mark into UTF-8.
func withoutMark(body []byte) []byte {
	if rest, ok := bytes.CutPrefix(body, []byte("\xef\xbb\xbf")); ok {
		return rest
	}
	little := bytes.HasPrefix(body, []byte("\xff\xfe"))
	if !little && !bytes.HasPrefix(body, []byte("\xfe\xff")) {
		return body
	}
	var units []uint16
	for i := 2; i+1 < len(body); i += 2 {
		unit := uint16(body[i])<<8 | uint16(body[i+1])
		if little {
			unit = unit<<8 | unit>>8
		}
		units = append(units, unit)
	}
	return []byte(string(utf16.Decode(units)))
}

// withoutNotice removes the notice that PHP writes before a document if something in the program is
// out of date.
func withoutNotice(body []byte) []byte {
	body = bytes.TrimSpace(body)
	for _, beginning := range []string{"<br", "Deprecated:", "Notice:", "Warning:"} {
		if i := bytes.Index(body, []byte("\n{")); i > 0 && bytes.HasPrefix(body, []byte(beginning)) {
			return body[i:]
		}
	}
	return body
}

// readForm reads a document that is form-encoded, as GitHub's token answers are. It reports false
// if body is none.
func readForm(body []byte) (document, bool) {
	text := strings.TrimSpace(string(withoutMark(body)))
	if !strings.Contains(text, "=") || strings.ContainsAny(text, " \t\r\n<>{}\"") {
		return document{}, false
	}
	form, err := url.ParseQuery(text)
	if err != nil {
		return document{}, false
	}
	d := document{make(map[string]json.RawMessage), new([]string)}
	for name := range form {
		d.members[name], _ = json.Marshal(form.Get(name)) // a string cannot fail
	}
	return d, true
}

// member returns a member as it came. Its name may be in another case, as in accessToken for
// access_token. A member that is null is absent.
func (d document) member(name string) json.RawMessage {
	value, ok := d.members[name]
	if !ok {
		name = plainName.Replace(name)
		found := ""
		for other := range d.members {
			if strings.EqualFold(plainName.Replace(other), name) && (found == "" || other < found) {
				found, value = other, d.members[other]
			}
		}
	}
	if string(value) == "null" {
		return nil
	}
	return value
}

// plainName removes what the ways to write a name differ in.
var plainName = strings.NewReplacer("_", "", "-", "")

// cannotRead notes that a member has a shape without a meaning.
func (d document) cannotRead(name string) {
	if d.odd != nil {
		*d.odd = append(*d.odd, name)
	}
}

// text returns a member that is text: a string, a number, or a list of one of these.
func (d document) text(name string) string {
	value := d.member(name)
	if value == nil {
		return ""
	}
	if s, ok := textOf(value); ok {
		return s
	}
	if one := elements(value, 2); len(one) == 1 {
		if s, ok := textOf(one[0]); ok {
			return s
		}
	}
	d.cannotRead(name)
	return ""
}

// link returns a member that is a URL, without white space around it.
func (d document) link(name string) string { return strings.TrimSpace(d.text(name)) }

// list returns a member that is a list of words without white space: an array, or one string whose
// words are separated by white space or by commas. It is nil if the member is absent or has another
// shape.
func (d document) list(name string) []string {
	value := d.member(name)
	if value == nil {
		return nil
	}
	if s, ok := textOf(value); ok {
		return bounded(words(s))
	}
	if value[0] != '[' {
		d.cannotRead(name)
		return nil
	}
	var all []string
	for _, one := range elements(value, maxList) {
		s, ok := textOf(one)
		if !ok {
			d.cannotRead(name)
			continue
		}
		all = append(all, strings.Fields(s)...)
	}
	return bounded(all)
}

// servers returns a member that is a list of authorization servers, or one of them. Each is an
// issuer or the URL of its metadata, or an object that holds one of these. base is the URL of the
// document.
func (d document) servers(name, base string) []string {
	all := elements(d.member(name), maxList)
	if one := d.member(name); len(one) > 0 && one[0] == '{' {
		all = []json.RawMessage{one}
	}
	var list []string
	if all == nil {
		list = d.list(name)
	}
	for _, one := range all {
		if s, ok := textOf(one); ok {
			if found := words(s); len(found) == 1 || strings.Count(s, "://") == len(found) {
				list = append(list, found...) // other words are prose
			}
			continue
		}
		inner, _ := readDocument(one)
		link := cmp.Or(inner.link("issuer"), inner.link("url"), inner.link("uri"), inner.link("authorization_server"))
		list = append(list, link)
	}
	for i, link := range list {
		u, err := url.Parse(link)
		switch {
		case strings.HasPrefix(link, "/"):
			link = absolute(link, base)
		case err == nil && u.Scheme == "" && strings.ContainsAny(link, ".:"):
			link = "https://" + link
		}
		list[i] = issuerAt(link)
	}
	return bounded(slices.DeleteFunc(list, func(link string) bool { return link == "" }))
}

// words cuts a list that came as one string.
func words(s string) []string {
	if strings.ContainsAny(strings.TrimSpace(s), " \t\r\n") {
		all := strings.Fields(s)
		for i, word := range all {
			all[i] = strings.Trim(word, ",")
		}
		return slices.DeleteFunc(all, func(word string) bool { return word == "" })
	}
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' || r == '\n' })
}

// bounded returns the distinct words of a list, without those that are too long or too many.
func bounded(list []string) []string {
	all, size := []string{}, 0
	known := make(map[string]bool)
	for _, word := range list {
		if len(all) == maxList || size+len(word) > maxWords {
			break
		}
		if len(word) > maxElement || known[word] {
			continue
		}
		known[word] = true
		all, size = append(all, word), size+len(word)
	}
	return all
}

// flag returns a member that is a truth value: a boolean, or its name, or 1.
func (d document) flag(name string) bool {
	value := d.member(name)
	if value == nil {
		return false
	}
	s, ok := textOf(value)
	if !ok {
		s = string(value)
	}
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "yes":
		return true
	case "false", "0", "no", "":
		return false
	}
	d.cannotRead(name)
	return false
}

// holding returns d if it has the member, else the object below it that has it. Some servers wrap
// their answers.
func (d document) holding(name string) document {
	if d.text(name) != "" {
		return d
	}
	for _, wrapper := range []string{"data", "result", "response", "body", "payload", "token", "tokens", "client", "authed_user"} {
		if inner, ok := readDocument(d.member(wrapper)); ok && inner.text(name) != "" {
			return inner
		}
	}
	return d
}

// logOdd says which members could not be read.
func (d document) logOdd(log *slog.Logger, what string) {
	if d.odd != nil && len(*d.odd) > 0 {
		slices.Sort(*d.odd)
		log.Debug("members in a shape that is not understood were left out", "of", what, "members", slices.Compact(*d.odd))
	}
}

// textOf returns a JSON string, or a number as it is written.
func textOf(value json.RawMessage) (string, bool) {
	if len(value) == 0 {
		return "", false
	}
	if value[0] == '"' {
		var s string
		return s, json.Unmarshal(value, &s) == nil
	}
	if _, err := strconv.ParseFloat(string(value), 64); err == nil {
		return string(value), true
	}
	return "", false
}

// elements returns up to n elements of a JSON array.
func elements(value json.RawMessage, n int) []json.RawMessage {
	decoder := json.NewDecoder(bytes.NewReader(value))
	if t, err := decoder.Token(); err != nil || t != json.Delim('[') {
		return nil
	}
	var all []json.RawMessage
	for decoder.More() && len(all) < n {
		var one json.RawMessage
		if decoder.Decode(&one) != nil {
			break
		}
		all = append(all, one)
	}
	return all
}
