package command

import (
	"encoding/json"
	"os"
	"strconv"
	"time"

	"sallyport/cmd/sallyport/internal/audit"
	"sallyport/cmd/sallyport/internal/cli"
	"sallyport/cmd/sallyport/internal/session"
	"sallyport/relay"
)

// openAudit opens the file of --audit-log. It is nil without one. The caller closes it when no call
// is under way any more. The error is a *cli.UsageError.
func openAudit(a *app, path string) (*audit.Log, error) {
	if path == "" {
		return nil, nil
	}
	log, err := audit.Open(path, a.log)
	if err != nil {
		return nil, &cli.UsageError{
			Text:  "audit log: " + err.Error(),
			Hints: []string{"--audit-log (SALLYPORT_AUDIT_LOG) must name a file in a directory that exists"},
		}
	}
	return log, nil
}

// auditTo returns what writes a line for each call of a session. It is nil without a log.
func auditTo(log *audit.Log, s *session.Session) func(relay.AuditEntry) {
	if log == nil {
		return nil
	}
	upstream, profile := session.PlainURL(s.Upstream), s.Realm.Profile
	return func(e relay.AuditEntry) {
		line := audit.Line{
			Time:     e.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"),
			Upstream: upstream, Profile: profile, Method: e.Method,
			Outcome: e.Outcome, Code: e.Code, Kind: e.Kind,
			Milliseconds: json.Number(strconv.FormatFloat(float64(e.Duration.Round(10*time.Microsecond))/float64(time.Millisecond), 'f', -1, 64)),
			Client:       e.Client, Process: os.Getpid(), Trace: e.TraceID,
		}
		// What a peer names may hold a secret in use all the same.
		name := s.Mask(e.Name)
		switch e.Method {
		case "tools/call":
			line.Tool = name
		case "resources/read":
			line.URI = name
		default:
			line.Name = name
		}
		log.Add(line)
	}
}
