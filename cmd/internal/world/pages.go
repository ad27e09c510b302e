package world

import (
	"html/template"
	"net/http"
	"net/url"
	"sync"
)

// loginPage is the login page of a login server with pages.
var loginPage = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("login").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="color-scheme" content="light dark">
<title>Practice login</title>
<style>body { font: 1.1em sans-serif; max-width: 32em; margin: 4em auto; padding: 0 1em } button { font: inherit; padding: .4em 1.2em }</style>
<h1>Practice login server</h1>
<p>sallyport wants to sign in to <strong>{{.Resource}}</strong>. Here your company's login page would ask who you are.</p>
<form method="get" action="/authorize">
{{range $name, $values := .Query}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}<button name="practice" value="yes">Sign in as Ada</button>
<button name="practice" value="no">Refuse</button>
</form>
</html>
`))
})

// withPages puts a login page in front of a login server that would agree at once.
func withPages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer := q.Get("practice")
		switch {
		case r.URL.Path != "/authorize" || answer == "yes":
			next.ServeHTTP(w, r)
		case answer == "no":
			back, err := url.Parse(q.Get("redirect_uri"))
			if err != nil || back.Scheme != "http" {
				http.Error(w, "no redirect URI", http.StatusBadRequest)
				return
			}
			back.RawQuery = url.Values{"error": {"access_denied"}, "state": {q.Get("state")}}.Encode()
			http.Redirect(w, r, back.String(), http.StatusFound)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			loginPage().Execute(w, map[string]any{"Resource": q.Get("resource"), "Query": q})
		}
	})
}
