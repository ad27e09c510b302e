package relay

import (
	"strings"
	"sync"
	"unicode"
)

// ourPrefix begins the names of our own tools. An upstream cannot have a tool of such a name: the
// model and the person would take it for a part of the proxy, and trust it with what is meant for a
// sign-in.
const ourPrefix = "sallyport_"

// maxNameLooked is how many characters of a name are compared with ourPrefix. Characters that are
// not seen count, too.
const maxNameLooked = 256

// looksLikeOurs reports whether a person may take name for one of our tools. It compares what is
// seen: case, the width of characters, invisible characters and the kind of separator do not
// matter, and letters of other alphabets count as the Latin ones that they look like.
func looksLikeOurs(name string) bool {
	var seen strings.Builder
	separated := true // nothing was seen, or a separator
	for i, r := range []rune(name[:min(len(name), 4*maxNameLooked)]) {
		if i == maxNameLooked || seen.Len() >= len(ourPrefix) {
			break
		}
		switch r = latin(r); {
		case r == 0:
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			seen.WriteRune(r)
			separated = false
		case !separated:
			seen.WriteByte('_')
			separated = true
		}
	}
	return strings.HasPrefix(seen.String(), ourPrefixSeen())
}

// ourPrefixSeen is ourPrefix as latin returns it.
var ourPrefixSeen = sync.OnceValue(func() string { return strings.Map(latin, ourPrefix) })

// latin returns the small Latin letter that r looks like, or r itself. It returns 0 for what is not
// seen. The capital I, the digit 1 and the letter l are one letter, as are 0 and o.
func latin(r rune) rune {
	if r >= '\uff01' && r <= '\uff5e' { // full width (U+FF01 is the exclamation mark)
		r -= '\uff01' - '!'
	}
	if r >= 0x1d400 && r <= 0x1d6a3 { // mathematical letters, 13 alphabets one after the other
		r = 'A' + (r-0x1d400)%52
		if r > 'Z' {
			r += 'a' - 'Z' - 1
		}
	}
	if like, ok := lookAlikes()[r]; ok {
		return like
	}
	switch {
	case unicode.In(r, unicode.Cf, unicode.Cc, unicode.Mn, unicode.Me) && r != '\t' && r != '\n':
		return 0
	case r == unicode.ReplacementChar:
		return 0
	}
	r = unicode.ToLower(r)
	if like, ok := lookAlikes()[r]; ok {
		return like
	}
	return r
}

// lookAlikes are characters that look like the letters of ourPrefix.
var lookAlikes = sync.OnceValue(func() map[rune]rune {
	table := map[rune]rune{}
	for letter, others := range map[rune]string{
		's': "ѕꜱʂ5$ſ", 'a': "аαɑạ@4ᴀ", 'l': "iI1|ӏӀІіιΙǀⅼⅠⅰ∣ℓɩ", 'y': "уγүʏỵуΥҮ", 'p': "рρϼᴘΡ",
		'o': "оοσ0օᴏ๐ഠΟ", 'r': "гᴦʀгя", 't': "тτᴛΤ",
	} {
		for _, other := range others {
			table[other] = letter
		}
	}
	return table
})
