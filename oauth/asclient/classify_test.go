package asclient

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// answered returns the error of a token request that is answered like this. A body with "<" first
// is sent as an HTML page, any other as JSON.
func answered(t *testing.T, stage string, status int, body string) *SignInError {
	t.Helper()
	c := testClient(t, func(*http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {"application/json"}}
		if strings.HasPrefix(body, "<") {
			h.Set("Content-Type", "text/html; charset=utf-8")
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	})
	s, who := Server{TokenEndpoint: "https://as.example/t"}, Credentials{ID: "me"}
	var err error
	if stage == StageRefresh {
		_, err = c.Refresh(t.Context(), s, who, Token{Refresh: "rt-0451"}, "https://h/mcp")
	} else {
		_, err = c.RedeemCode(t.Context(), s, who, Code{Code: "code-0451"})
	}
	e, ok := errors.AsType[*SignInError](err)
	if !ok {
		t.Fatalf("status %d, %s: got %v", status, body, err)
	}
	return e
}

func TestUndecidedAnswersToARefresh(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{200, `{}`, true},
		{200, ``, true},
		{200, `{"access_token":null}`, true},
		{204, ``, true},
		{302, ``, true},
		{303, `{"message":"log in"}`, true},
		{400, `{"error":"temporarily_unavailable"}`, true},
		{200, `{"error":"temporarily_unavailable"}`, true},
		{200, `<html>Welcome to our network</html>`, false},
		{302, `<html>Moved</html>`, false},
		{200, `{"error":"invalid_grant"}`, false}, // it is decided
		{400, `{"error":"slow_down"}`, false},
		{407, ``, false},
		{429, ``, false},
		{500, `{}`, false},
		{503, `{"error":"temporarily_unavailable"}`, false},
	} {
		if got := answered(t, StageRefresh, tt.status, tt.body).Undecided(); got != tt.want {
			t.Errorf("status %d, %s: got %v, want %v", tt.status, tt.body, got, tt.want)
		}
	}
	if answered(t, StageToken, 200, `{}`).Undecided() {
		t.Error("an answer to a code is one to a refresh token")
	}
}

func TestUnknownClient(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  SignInError
		want bool
	}{
		{SignInError{Code: "invalid_client"}, true},
		{SignInError{Code: "Invalid_Client", Status: 401}, true},
		{SignInError{Code: "unauthorized_client", Stage: StageAuthorize}, true},
		{SignInError{Code: "unauthorized_client", Stage: StageRefresh}, false},
		{SignInError{Code: "unauthorized_client", Stage: StageToken, Description: "Client not found."}, true},
		{SignInError{Code: "invalid_request", Description: "Unknown client_id"}, true},
		{SignInError{Code: "invalid_request", Description: "The client with the ID x does not exist"}, true},
		{SignInError{Code: "invalid_request", Description: "Invalid client_id"}, true},
		{SignInError{Code: "invalid_request", Description: "client 7f is no longer registered"}, true},
		{SignInError{Code: CodeBadReply, Status: 400, Description: "Application not found"}, true},
		{SignInError{Code: "invalid_request", Description: "the client sent an unsupported parameter"}, false},
		{SignInError{Code: "invalid_request", Description: "user not found"}, false},
		{SignInError{Code: "access_denied", Description: "client not found"}, false},
		{SignInError{Code: "invalid_grant", Description: "client not found"}, false},
		{SignInError{Code: "invalid_client", Status: 500}, false},
		{SignInError{Code: CodeBadReply, Status: 404, Page: true, Description: "client not found"}, false},
		{SignInError{}, false},
	} {
		if got := tt.err.UnknownClient(); got != tt.want {
			t.Errorf("%v: got %v, want %v", &tt.err, got, tt.want)
		}
	}
}

func TestAnswersThatEndARefreshToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{400, `{"error":"invalid_grant"}`, true},
		{401, `["invalid refresh token"]`, true},
		{401, `[{"code":"E17","message":"gone"}]`, true},
		{400, `{"status":"BAD_REFRESH_TOKEN"}`, true},
		{400, `{"error":{"code":"x","message":"y"}}`, true},
		{401, ``, true},
		{401, `{"error":"server_error"}`, true},
		{400, `{"error":"temporarily_unavailable"}`, false},
		{407, ``, false},
		{403, `{"message":"Forbidden"}`, true},
		{410, ``, true},
		{401, `<html>who are you?</html>`, true},
		{400, `<html>Bad Request</html>`, true},
		{422, `{"detail":[{"loc":["body","refresh_token"],"msg":"revoked"}]}`, true},
		{400, `error=bad_refresh_token&error_description=The+token+is+dead`, true},
		{400, `the refresh token is revoked`, true},
		{400, "\xef\xbb\xbf" + `{"error":"invalid_grant"}`, true},
		{200, `{"ok":false,"error":"invalid_refresh_token"}`, true},
		{200, `{"error":"bad_refresh_token","error_description":"dead"}`, true},
		{200, `{"success":false,"message":"the token is not known"}`, true},
		{201, `{"errors":[{"code":"dead"}]}`, true},

		{404, `{"error":"invalid_grant"}`, true},
		{404, `{"error":"not_found","error_description":"no such token"}`, true},
		{404, `{"message":"Refresh token not found"}`, true},
		{404, `{"message":"token not found"}`, true},
		{404, `{"detail":"Client not found"}`, true},

		{404, ``, false},
		{404, `404 page not found`, false},
		{404, `{"status":"error","code":404,"message":"Application not found"}`, false},
		{404, `{"status":404,"error":"Not Found","message":"No static resource oauth/token."}`, false},
		{404, `{"message":"no Route matched with those values"}`, false},
		{404, `{"timestamp":"2026-11-29","status":404,"error":"Not Found","path":"/token"}`, false},
		{404, `{"statusCode":404,"message":"Cannot POST /token","error":"Not Found"}`, false},
		{404, `<html>not found</html>`, false},
		{200, `{"ok":false,"error":"ratelimited"}`, false},
		{200, `{"ok":false,"error":"internal_error"}`, false},
		{200, `{}`, false},
		{200, `<html>sign in to the Wi-Fi</html>`, false},
		{204, ``, false},
		{302, ``, false},
		{403, `<!DOCTYPE html><title>Attention Required!</title>`, false},
		{406, `<html>Not Acceptable</html>`, false},
		{405, `<html>blocked</html>`, false},
		{400, `{"error":"Access Denied","error_description":"You have made too many requests continuously. Please try again after some time."}`, false},
		{403, `{"message":"You have exceeded a secondary rate limit."}`, false},
		{400, `{"__type":"TooManyRequestsException","message":"Rate exceeded"}`, false},
		{400, `{"error":"invalid_grant","error_description":"AADSTS50196: The server terminated an operation because it encountered a loop."}`, false},
		{401, `{"error":"over_request_rate_limit"}`, false},
		{408, ``, false},
		{425, `{"error":"invalid_grant"}`, false},
		{429, `{"error":"invalid_grant"}`, false},
		{400, `{"error":"slow_down"}`, false},
		{500, `{"error":"invalid_grant"}`, false},
		{502, `<html>Bad Gateway</html>`, false},
		{503, ``, false},
	} {
		if got := answered(t, StageRefresh, tt.status, tt.body).EndsRefreshToken(); got != tt.want {
			t.Errorf("%d %s: got %t", tt.status, tt.body, got)
		}
	}
	if answered(t, StageToken, 400, `{"error":"invalid_grant"}`).EndsRefreshToken() {
		t.Error("a refused code ends a refresh token")
	}
	if (&SignInError{Stage: StageRefresh, Err: io.ErrUnexpectedEOF}).EndsRefreshToken() {
		t.Error("no answer ends a refresh token")
	}
}

func TestRefusalsThatWaitingCannotMend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status  int
		body    string
		refused bool
		code    string
	}{
		{400, `{"error":"invalid_grant"}`, true, "invalid_grant"},
		{401, ``, true, CodeBadReply},
		{400, `{"errorCode":"invalid_grant","errorSummary":"no"}`, true, "invalid_grant"},
		{200, `{"error":"incorrect_client_credentials"}`, true, "incorrect_client_credentials"},
		{200, `{"access_token":""}`, false, CodeBadReply},
		{400, `{"error":"Temporarily_Unavailable"}`, false, "temporarily_unavailable"},
		{401, `{"error":"InvalidClient"}`, true, "invalid_client"},
		{400, `{"error":"invalid grant"}`, true, "invalid_grant"},
		{400, `{"error":"Own-Word"}`, true, "Own-Word"},
		{403, `<html>blocked</html>`, false, CodeBadReply},
		{429, `{"error":"invalid_grant"}`, false, "invalid_grant"},
		{503, `{"error":"invalid_grant"}`, false, "invalid_grant"},
	} {
		e := answered(t, StageToken, tt.status, tt.body)
		if e.Refused != tt.refused || e.Code != tt.code || e.Status != tt.status {
			t.Errorf("%d %s: got %+v", tt.status, tt.body, e)
		}
	}
}

func TestObjectionsToTheResource(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x ", maxPeerText)
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{400, `{"error":"invalid_target"}`, true},
		{400, `{"error":"invalid_request"}`, true},
		{400, `{"error":"invalid request","error_description":"unknown field"}`, true},
		{400, `{"error":"invalid_grant","error_description":"the resource does not match"}`, true},
		{400, `{"error":"invalid_grant","error_description":"AADSTS9010010: it does not match the requested scopes"}`, true},
		{401, `{"error":{"code":"AADSTS901002"}}`, true},
		{422, `{"detail":[{"loc":["body","resource"],"msg":"extra fields not permitted"}]}`, true},
		{400, `{"error":"invalid_grant","error_description":"` + long + ` resource"}`, true},
		{200, `{"ok":false,"error":"unknown_argument","message":"resource"}`, true},

		{400, `{"error":"invalid_grant"}`, false},
		{400, `{"error":"invalid_grant","error_description":"of all resources"}`, false},
		{401, ``, false},
		{403, `<html>resource</html>`, false},
		{429, `{"error":"invalid_target"}`, false},
		{500, `{"error":"invalid_target"}`, false},
	} {
		if got := answered(t, StageRefresh, tt.status, tt.body).ObjectsTo("resource"); got != tt.want {
			t.Errorf("%d %s: got %t", tt.status, tt.body, got)
		}
	}
	scope := &SignInError{Stage: StageToken, Status: 400, Code: "invalid_client_metadata", Description: `unknown member "scope"`}
	if !scope.ObjectsTo("scope") || scope.ObjectsTo("resource") {
		t.Error("the words name scope alone")
	}
}

func TestRefreshThatCameTooEarly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{400, `{"error":"invalid_request","error_description":"token not expired"}`, true},
		{400, `{"error":"invalid_grant","error_description":"The access token hasn't expired yet."}`, true},
		{400, `{"error":"TOKEN_NOT_EXPIRED"}`, true},
		{400, `{"error":"tokenNotExpired","message":"Refresh token can only be used after the access token expires"}`, true},
		{403, `{"code":"too_early"}`, true},
		{409, `{"message":"access token is still active: token still valid"}`, true},
		{425, ``, true},

		{400, `{"error":"invalid_grant","error_description":"Refresh token has expired"}`, false},
		{400, `{"error":"invalid_grant","error_description":"make sure that the token has not expired"}`, false},
		{400, `{"error":"invalid_grant","error_description":"refresh token unknown, or not expired properly"}`, false},
		{400, `{"error":"invalid_grant"}`, false},
		{503, `{"error":"token not expired"}`, false},
	} {
		if got := answered(t, StageRefresh, tt.status, tt.body).TooEarly(); got != tt.want {
			t.Errorf("%d %s: got %t", tt.status, tt.body, got)
		}
	}
}
