package oauth

import (
	"io"
	"net/http"

	"sallyport/oauth/asclient"
)

// send sends req with the token, and with a proof where that is bound to a key. An
// answer that only asks for another nonce is not handed on, if the body can be sent again.
func (t *Transport) send(req *http.Request, body io.ReadCloser, access string) (*http.Response, error) {
	t.mu.Lock()
	key, bound := t.rec.ProofKey, t.rec.Token.Type == asclient.TypeDPoP
	t.mu.Unlock()
	if access == "" || !bound || key == nil {
		return t.cfg.Base.RoundTrip(attempt(req, body, access))
	}
	for try := 0; ; try++ {
		r := attempt(req, body, access)
		proof, err := t.as.Proof(key, r.Method, r.URL, access)
		if err != nil {
			if body != nil {
				body.Close()
			}
			return nil, err
		}
		r.Header.Set("Authorization", asclient.TypeDPoP+" "+access)
		r.Header.Set("DPoP", proof)
		resp, err := t.cfg.Base.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		fresh := t.as.KeepNonce(r.URL, resp.Header)
		if !fresh || !asclient.WantsNonce(resp) || try == asclient.MaxNonceReplays || req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
			return resp, nil
		}
		shelve(resp)
		resp.Body.Close()
		if req.GetBody != nil {
			if body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}
