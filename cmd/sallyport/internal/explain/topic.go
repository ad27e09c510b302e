package explain

import (
	"embed"
	"slices"
	"strings"
)

// topicFiles hold the text of `sallyport help KIND`, a file for each kind of error.
//
//go:embed topics/*.txt
var topicFiles embed.FS

// Topic returns what there is to say of a kind of error: what it means, its causes with what mends
// them, and how to see more. It returns "" for a word that is no kind.
func Topic(kind string) string {
	if !slices.Contains(Topics(), kind) {
		return ""
	}
	text, _ := topicFiles.ReadFile("topics/" + kind + ".txt") // it was listed
	return string(text)
}

// Topics lists the kinds of errors, sorted.
func Topics() []string {
	files, _ := topicFiles.ReadDir("topics") // it is there in every build
	var kinds []string
	for _, file := range files {
		kinds = append(kinds, strings.TrimSuffix(file.Name(), ".txt"))
	}
	return kinds
}
