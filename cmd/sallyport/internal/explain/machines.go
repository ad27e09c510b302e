package explain

import (
	"fmt"

	"sallyport/cmd/sallyport/internal/deploy"
	"sallyport/cmd/sallyport/internal/service"
)

// machineRows explain why the program could not be put on another machine, or made a service here.
var machineRows = []row{
	on(func(e *deploy.PlatformError) Explanation {
		return Explanation{Kind: KindOther, Text: e.Error(), Status: StatusFailed, Hints: platformHints(e)}
	}),
	on(func(e *deploy.FailedError) Explanation {
		out := Explanation{Kind: KindOther, Text: e.Error(), Status: StatusFailed,
			Hints: []string{"what was there is untouched; put the program there yourself: scp $(command -v sallyport) " + e.Host + ":.local/bin/"}}
		if e.Reason == "" && e.Err != nil && isUnreachable(e.Err) {
			out.Kind, out.Status = KindUnreachable, StatusUnreachable
			out.Hints = []string{"what was there is untouched; type the command again"}
		}
		return out
	}),
	on(func(e *service.UnsupportedError) Explanation {
		return Explanation{Kind: KindOther, Text: e.Error(), Status: StatusFailed, Hints: []string{"let your session start this: " + e.Line}}
	}),
}

// platformHints says how to get the program that a machine needs.
func platformHints(e *deploy.PlatformError) []string {
	if e.OS == "" || e.Arch == "" {
		return []string{"sallyport is not known to run there; a login there can still use --callback-via, or sallyport login --paste"}
	}
	return []string{
		fmt.Sprintf("from sallyport's source: CGO_ENABLED=0 GOOS=%s GOARCH=%s go build -o sallyport-%s ./cmd/sallyport", e.OS, e.Arch, e.Arch),
		fmt.Sprintf("then: scp sallyport-%s %s:.local/bin/sallyport; or install its package there", e.Arch, e.Host),
	}
}
