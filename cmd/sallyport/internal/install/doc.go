// Package install writes sallyport's entry into the configuration of an MCP host, finds it there,
// and takes it out again.
//
// # Parts
//
// A [Host] is a row of a table: where its file is on each system, how its entry looks, which
// variables it keeps back, and what it still wants from the person. The table has one file a family
// of hosts. A row says nothing about syntax, but names one of three formats: JSON with comments,
// TOML, YAML. A format gets the old bytes of a file and returns the new ones.
//
// [Install] reads the servers that a file has, decides what to do (plan), lets the format edit the
// bytes, and replaces the file. [Uninstall] does the reverse. [List] only reads.
//
// # What an edit promises
//
// Every byte stays that does not belong to the entry: comments, order, indentation, line breaks, a
// byte order mark, trailing commas. So an edit never writes a document anew from its decoded form.
// The parser only tells where a value begins and ends, and the entry goes between. What is added
// looks like what is there: it has the same indentation, and one line in a file of one line.
// Uninstall after install gives the old bytes back. To do so it has to know whether the object
// that holds the servers was missing before, or empty. [Records] remembers that.
//
// A file that does not parse, or has a key twice on the way to the entry, is left alone: whatever
// we add, its host may read something else.
//
// # Which entry is whose
//
// An entry is ours if it starts this program, by whatever path. One that leads to the same upstream
// with the same profile is updated, under the name that it has. Members that the host or the person
// has added stay. Another program's entry is never changed unasked. [Request.Replace] permits it
// for mcp-remote, mcp-oauth2-proxy, and the host's own connection to the same upstream.
//
// # Replacing the file
//
// Links are followed and stay links, because people keep such files in a repository of their own.
// The new file has the mode and the owner of the old one, and takes its place by a rename. Just
// before that the old file is read once more. If it has changed, the edit begins again. Where the
// host has a lock, we hold it meanwhile. A copy of the old file stays beside it, and at most three
// of them do.
//
// The commands that some hosts have for this (`claude mcp add`, `codex mcp add`, `gemini mcp add`)
// are not used. None replaces an entry or shows what it changes, one has no flag for the variables
// that we need, and others lose the comments of the file.
//
// # Secrets
//
// No secret is in an [Entry]: hosts keep these files readable for everybody, show them, or sync
// them to other machines. The command puts secrets into files of the user's own ([WriteSecret]) and
// names those. [Diff] masks what looks like a secret in the lines around the change.
package install
