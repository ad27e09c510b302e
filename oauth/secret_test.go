package oauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"sallyport/oauth/asclient"
)

func TestSecretHides(t *testing.T) {
	t.Parallel()
	s := Secret("hush")
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "s", s, "c", ClientConfig{Secret: s})
	j, err := json.Marshal(map[string]Secret{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var who client
	who.Secret = "hush"
	text := fmt.Sprint(s, &s, asclient.Token{Access: "hush"}, who) +
		fmt.Sprintf("%v %s %q %x %d %#v %+v", s, s, s, s, s, s, struct{ S Secret }{s}) + log.String() + string(j)
	if strings.Contains(text, "hush") || strings.Contains(text, "68757368") {
		t.Errorf("shown: %s", text)
	}
}
