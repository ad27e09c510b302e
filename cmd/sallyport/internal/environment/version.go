package environment

import (
	"strings"

	"golang.org/x/mod/semver"
)

// CompareVersions compares two versions of sallyport, with or without a v before them (Semantic
// Versioning 2.0.0 section 11). The order is negative if a is the earlier one, and positive if b
// is. ok is false if either is no version, as that of a developer's build.
func CompareVersions(a, b string) (order int, ok bool) {
	a, b = "v"+strings.TrimPrefix(a, "v"), "v"+strings.TrimPrefix(b, "v")
	return semver.Compare(a, b), isWhole(a) && isWhole(b)
}

// isWhole reports whether a version has all three numbers. The hash of a commit may look like one
// number.
func isWhole(version string) bool {
	return semver.IsValid(version) && strings.Count(version, ".") >= 2
}
