// Package service lets a command of this program run whenever its user is logged on: by systemd,
// by launchd, or by a Run key of Windows. It needs no more rights than the user has.
//
// Each system has a file here, which makes the text that the system reads, and says which of its
// commands take it over. The texts are the same on every system, so the tests compare them with
// those in testdata wherever they run.
//
// A service has no terminal, and nobody who answers questions. So the command that it runs must not
// need a password or a passphrase from a person. Its environment is not that of the terminal in
// which the person has installed it: it has only the variables that the text names. The text holds
// no secret.
package service
