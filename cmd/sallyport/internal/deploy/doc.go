// Package deploy puts the program that runs here on another machine, over commands that run there.
//
// It takes three commands, each by sh, so that the login shell may be of any kind:
//
//   - look prints the platform, and which sallyport is there already. Nothing is copied to another
//     platform than ours, or over an equal or newer one.
//   - write reads as many bytes from stdin as it was told, compares their number and hash, runs the
//     new file once, and only then gives it its name. Whatever breaks in between, what was there
//     stays, and the unfinished file is removed.
//   - paths asks the login shell where it finds sallyport. The answer is only used to tell the
//     person that the shell finds another one, or none.
//
// A command prints its results on lines that begin with a mark, because a login shell may print
// other things.
package deploy
