// Package lazyregexp is for the regular expressions that stand in variables of a package. A proxy
// runs for days beside many others, and would keep in memory what only other commands use: 0.4 MiB
// if all of them were compiled at the start.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New returns a function that compiles the pattern when it is called for the first time. The
// function panics if the pattern is wrong.
func New(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}
