// Package hostkeys decides whether the host key of an SSH server is to be trusted, as OpenSSH 10
// does.
//
// A [Verifier] serves one connection. [New] reads what is known about the host,
// [Verifier.Algorithms] says what to ask the server for, [Verifier.Verify] decides about the key
// that it shows, and [Verifier.HandleUpdates] afterwards learns the server's other keys. The
// settings come from a [sshconfig.Host]; questions go to a function of the caller. The tests
// compare decisions, questions and files with those of the real ssh.
//
// # What speaks for a key
//
// A line of known_hosts holds a name and a key (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). The name is
// a list of patterns, or one hashed name. The lines come from UserKnownHostsFile, then
// GlobalKnownHostsFile, then the output of KnownHostsCommand. A line that cannot be parsed is
// skipped and spoils no other. A file that is missing or cannot be read is empty. A composite
// ML-DSA key (OpenSSH 10.5) is skipped like this, too, because we cannot verify its signatures. If
// such a line is all that is known of a host, [Error] names it.
//
// The host is looked up as "host", as "[host]:port" if the port is not 22, or by its HostKeyAlias
// alone. A key is decided in this order:
//
//   - RequiredRSASize refuses an RSA key that is shorter, also in a certificate.
//   - RevokedHostKeys refuses it: a list of keys, or a key revocation list (OpenSSH's
//     PROTOCOL.krl). If one of these files cannot be understood, every key is refused.
//   - NoHostAuthenticationForLocalhost accepts it, if a loopback address was dialed directly.
//   - A line with @revoked refuses it.
//   - A certificate is accepted if a line with @cert-authority holds the key that signed it, and it
//     is valid for the name. Else the plain key in it is looked up. A principal may be a pattern,
//     such as *.internal. A certificate without principals is for no host (OpenSSH 10.3).
//   - A line with the same key accepts it. If there are only lines with other keys, the key has
//     changed and is always refused.
//   - A line for the name without the port accepts it. Another key there means nothing.
//   - Else it is unknown. StrictHostKeyChecking says what happens: yes refuses it; ask puts it to
//     the person; accept-new and no accept it. An accepted key is added to the first
//     UserKnownHostsFile; without such a file it is refused.
//
// With CheckHostIP, the address that was dialed is looked up as well. A key that is right for the
// name and wrong for the address is put to the person or refused. A plain key that is known for the
// name only is also noted for the address.
//
// [Voucher] names the line, the person or the setting that spoke for an accepted key. [Error] names
// the lines that spoke against it, and the command that helps.
//
// # Algorithms
//
// A server shows one key. If the first algorithm that we offer leads to a key of a type that
// known_hosts does not hold, the key seems unknown although another one is known. So the algorithms
// that known_hosts can verify are offered first, unless HostKeyAlgorithms gives an order.
//
// # UpdateHostKeys
//
// After the login, a server may tell all its host keys. If the key of the connection is in the
// user's own files, or the person has just accepted it, the keys that are new are proved by the
// server's signature over the session, and then written down; keys that the server has no more are
// removed. Nothing is changed where the host is noted by a pattern, in a list, under other names as
// well, or with a marker: a person has written that.
//
// # Writing
//
// Lines are added by one write. A change of lines replaces the file in one step and leaves the
// former one as FILE.old. Processes of ours take turns by a lock on the directory, for at most five
// seconds; ssh takes no lock.
package hostkeys
