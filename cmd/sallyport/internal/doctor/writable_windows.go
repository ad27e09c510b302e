package doctor

// writable returns nil: Windows tells whether files can be made in a directory only by making one.
func writable(string) error { return nil }
