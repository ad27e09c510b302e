//go:build linux || dragonfly || freebsd || netbsd || openbsd

package roots

import "os"

// searchable says that crypto/x509 verifies by itself, and takes the roots from files.
const searchable = true

// bundlePath returns the file that crypto/x509 reads roots from: that of SSL_CERT_FILE, or the
// first one that can be read. It returns an empty path if that is no regular file. A pipe, for
// example, can be read only once.
func bundlePath(getenv func(name string) string) string {
	files := bundles
	if path := getenv("SSL_CERT_FILE"); path != "" {
		files = []string{path}
	}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if !info.Mode().IsRegular() {
			return ""
		}
		file, err := os.Open(path)
		if err != nil {
			continue
		}
		file.Close()
		return path
	}
	return ""
}
