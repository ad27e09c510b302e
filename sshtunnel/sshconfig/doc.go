// Package sshconfig evaluates ssh_config files as OpenSSH 10.6 does.
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
// Keywords are in any case, and some have older names.
//
// The first value of a keyword wins. The order is: -J, the options of -o, the user and port of the
// destination, the user's file, the system's file. IdentityFile, CertificateFile, SendEnv and the
// three forwards add up instead.
//
// Host and Match begin a block, which ends at the next Host or Match line or with the file. A line
// in a block that does not apply is forgotten, whatever it says. Include evaluates other files in
// its place, up to 16 deep. Files that the user's file includes must belong to the user or to root,
// and nobody else may write them; the user's file itself too, unless -F named it.
//
// When all files are read, HostName takes the place of the alias. CanonicalizeHostname may then ask
// DNS for the full name. If it is on, or a Match line says final, the files are read a second time,
// with the new name; values that are set already stay.
//
// At the end, unset keywords get their defaults, the +, - and ^ forms of algorithm lists are
// applied to the lists of OpenSSH 10.6 ([DefaultAlgorithms]), and tokens (%h), tildes and
// environment variables are expanded where ssh_config(5) says so. The ~ is the home directory of
// the user database.
//
// Names of hosts and users that are typed, or that come out of an expansion, may not have
// characters that a shell reads, because ProxyCommand and Match exec hand them to one. A User line
// without tokens and variables may have any. Typed names are not expanded.
//
// # What is skipped
//
// A file is often shared by machines with different releases of OpenSSH. ssh refuses the whole file
// for a single name that it does not know. We skip it and tell it once, if its line applies to the
// host:
//
//   - an unknown keyword, also without IgnoreUnknown;
//   - an unknown algorithm in a list. The host is refused if nothing else is left of the list;
//   - a bad value of a keyword that changes nothing here, such as ForwardX11 or LocalForward.
//
// A bad value of any other keyword refuses the hosts that its line applies to. On the command line,
// in -o, an unknown keyword and any bad value are errors.
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
//   - Unknown names, and faults in lines that do not apply, are skipped, as the part above says.
//   - "ProxyJump none # note" is none. ssh looks for a host of the name "none # note" and fails.
//   - An environment variable that is empty counts as unset.
//   - A command of Match exec is ended after 30 s.
//   - Match command matches the empty command only, and a Match exec after a criterion that did not
//     hold is not run.
//   - A destination may be host:port. ssh takes a port in an ssh:// URI only, and in that no
//     address of IPv6.
//   - The '%' before the zone of an IPv6 address may stand alone in HostName and ProxyJump. ssh
//     takes it for a token, and wants it doubled.
//   - ForkAfterAuthentication without a command is no error, because nothing is forked.
//   - GSSAPI keywords are read and not printed, and so are IPQoS, SecurityKeyProvider and
//     XAuthLocation.
//
// # Errors
//
// What is wrong with the configuration is an [*Error], which names file and line if there is one.
// Names that could become an option or a command of a shell are refused here, before anybody dials
// them. DNS errors of CanonicalizeHostname and the cause of a context's end come as they are.
package sshconfig
