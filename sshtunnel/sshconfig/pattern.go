package sshconfig

import "strings"

// MatchPatterns tells whether name matches a list of patterns, separated by commas (ssh_config(5),
// PATTERNS): at least one pattern matches, and none that begins with '!'. Name is in lower case;
// the patterns may be in any case. known_hosts uses such lists as well.
func MatchPatterns(name, list string) bool { return matchList(name, list, true) == 1 }

// maxPattern is the longest pattern that OpenSSH reads, in bytes.
const maxPattern = 1022

// matchList compares s with a list of patterns: 1 means that it matches, 0 that no pattern matches,
// and -1 that a pattern behind a '!' matches. With lower, the patterns are put in lower case
// (match_pattern_list of OpenSSH).
func matchList(s, list string, lower bool) int {
	result := 0
	if list == "" {
		return 0
	}
	for pattern := range strings.SplitSeq(strings.TrimSuffix(list, ","), ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if len(pattern) > maxPattern { // ends the list in OpenSSH, too
			return 0
		}
		if lower {
			pattern = lowerASCII(pattern)
		}
		if !matchPattern(s, pattern) {
			continue
		}
		if negated {
			return -1
		}
		result = 1
	}
	return result
}

// MatchPattern tells whether s matches one pattern of * (any bytes) and ? (one byte), in the same
// case (match_pattern of OpenSSH). Principals of host certificates are such patterns.
func MatchPattern(s, pattern string) bool { return matchPattern(s, pattern) }

// matchPattern tells whether s matches a pattern of * (any bytes) and ? (one byte). It takes no
// time that is exponential in the stars, as a recursive one would.
func matchPattern(s, pattern string) bool {
	// After a mismatch only the last star needs another try: it takes one byte more.
	star, resume := -1, 0
	i, p := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, resume = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			i++
			p++
		case star >= 0:
			resume++
			i, p = resume, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// lowerASCII puts A to Z in lower case and leaves all other bytes, as OpenSSH does.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
