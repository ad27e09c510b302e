//go:build dragonfly || freebsd || netbsd || openbsd

package roots

// bundles are the files in which crypto/x509 looks for the system's roots, in its order.
var bundles = []string{
	"/usr/local/etc/ssl/cert.pem",            // FreeBSD
	"/etc/ssl/cert.pem",                      // OpenBSD
	"/usr/local/share/certs/ca-root-nss.crt", // DragonFly
	"/etc/openssl/certs/ca-certificates.crt", // NetBSD
}
