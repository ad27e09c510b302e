// Package person is the way to the person: lines on stderr, questions on the terminal or by the
// program of SSH_ASKPASS, and the browser. All text for people passes through [OneLine] or
// [Printable], so that what a peer wrote cannot move the cursor or pretend to be another line.
package person
