// Package person is the way to the person: lines on stderr, questions on the terminal or by the
// program of SSH_ASKPASS, and the browser. All text for people passes through [Printable], so that
// what a peer wrote cannot move the cursor, pretend to be another line, or look like another name.
// [Gate] is in front of stderr, of the log file, and of the stdout of all commands but the proxy.
// [Screen] is the gate of stderr, which keeps the live line of a terminal below all other lines.
package person
