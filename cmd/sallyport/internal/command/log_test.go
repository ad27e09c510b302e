package command

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"sallyport/cmd/sallyport/internal/person"
)

func TestRemarks(t *testing.T) {
	var out strings.Builder
	log := slog.New(remarks{messages: person.NewMessages(&out, slog.New(slog.DiscardHandler))})
	log.Info("nobody asked for this")
	log.With("hop", "bastion").Warn("host key added", "type", "ssh-ed25519", "err", nil)
	log.WithGroup("g").Warn("refresh failed", "err", errors.New("invalid_grant\nexpired"))
	const want = "sallyport: note: host key added (hop bastion, type ssh-ed25519)\n" +
		"sallyport: note: refresh failed: invalid_grant; expired\n"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
