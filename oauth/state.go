package oauth

import "time"

// State tells where the sign-in of one upstream stands.
type State struct {
	// Prompt is what waits for the person. It is zero if nothing does.
	Prompt Prompt
	// Busy says that a login of the person is under way, from its discovery and its listener to the
	// stored token. A refresh does not count.
	Busy bool
	// NextPage is when a login under way may show its page, if the page before was opened a short
	// time ago. It is zero if no page is held back.
	NextPage time.Time
	// Err is the error of the last sign-in. An error that leaves the token as good as it was is not
	// kept here: that of a step-up, of a refresh ahead of expiry, of a background request.
	Err error
}
