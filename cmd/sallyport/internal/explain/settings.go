package explain

import "sallyport/cmd/sallyport/internal/cli"

// settingsRows explain mistakes in flags, variables and files.
var settingsRows = []row{
	on(func(e *cli.UsageError) Explanation {
		return Explanation{Kind: KindConfig, Text: e.Text, Hints: e.Hints, Status: StatusUsage}
	}),
}
