package cli

// UsageError is a mistake in flags, variables or files that belong to the command itself.
type UsageError struct {
	// Text is one line that says what is wrong, and where.
	Text string
	// Hints say what to type instead, one line each.
	Hints []string
}

// Error returns Text.
func (e *UsageError) Error() string { return e.Text }
