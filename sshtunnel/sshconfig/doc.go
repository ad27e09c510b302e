// Package sshconfig evaluates ssh_config files as OpenSSH 10 does.
//
// [Resolver.Resolve] answers with the [Host] that `ssh -G` would print for a destination, and
// [Resolver.Chain] with one Host for each machine on the way there. A Host also knows where each
// value was set: a line of a file, the command line, or nowhere ([Host.Origin], [Host.Settings]).
// Everything follows ssh_config(5) and OpenSSH's readconf.c; the tests compare the result with the
// real ssh, keyword by keyword.
//
// The module github.com/kevinburke/ssh_config does one thing for us: it cuts the text of a file
// into lines with their numbers, and so is a second opinion on where a directive begins; what a
// line means is decided here.
//
// # From a file to values
//
// A line is a keyword, blanks or one '=', and arguments. Arguments are split at blanks outside of
// quotes; a '#' that begins a word ends the line; a backslash escapes quotes, itself and a blank.
// Keywords are in any case, and some have older names. The arguments of every line are checked,
// also where the line does not apply.
//
// The first value of a keyword wins. The order is: -J, the options of -o, the user and port of the
// destination, the user's file, the system's file. IdentityFile, CertificateFile, SendEnv and the
// three forwards add up instead.
//
// Host and Match begin a block, which ends at the next Host or Match line or with the file. A line
// in a block that does not apply is checked and forgotten. Include evaluates other files in its
// place, up to 16 deep. Files that the user's file includes must belong to the user or to root, and
// nobody else may write them; the user's file itself too, unless -F named it.
//
// When all files are read, HostName takes the place of the alias. CanonicalizeHostname may then ask
// DNS for the full name. If it is on, or a Match line says final, the files are read a second time,
// with the new name; values that are set already stay.
//
// At the end, unset keywords get their defaults, the +, - and ^ forms of algorithm lists are
// applied to the lists of OpenSSH 10.5, and tokens (%h), tildes and environment variables are
// expanded where ssh_config(5) says so.
//
// # Chains
//
// ProxyJump a,b means that the destination is reached through b, and b through a. OpenSSH runs
// another ssh for b, with -J a and -W, and that one runs a third for a. So each hop is evaluated
// like a destination of its own: no -o, no forwards; the -J wins over what the files say for b;
// only a can have a ProxyJump or ProxyCommand of its own, which then comes before a. A loop is an
// error, and so is a chain of more than 64 hosts.
//
// # Where we differ from ssh
//
//   - A keyword that OpenSSH does not know is logged once and skipped. In -o it is an error, as
//     with ssh.
//   - "ProxyJump none # note" is none. ssh looks for a host of the name "none # note" and fails.
//   - An environment variable that is empty counts as unset.
//   - A command of Match exec is ended after 30 s.
//   - Match command matches the empty command only, and a Match exec after a criterion that did not
//     hold is not run.
//   - A destination may be host:port. ssh takes a port in an ssh:// URI only.
//   - GSSAPI keywords are read and not printed, and so are IPQoS, SecurityKeyProvider and
//     XAuthLocation.
//
// # Errors
//
// What is wrong with the configuration is an [*Error], which names file and line if there is one.
// Names that could become an option or a command of a shell are refused here, before anybody dials
// them. DNS errors of CanonicalizeHostname and the cause of a context's end come as they are.
package sshconfig
