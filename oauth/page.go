package oauth

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"log"
	"net/http"
	"sync"
)

// page is one of our own pages, which the callback server sends to the browser. It loads nothing
// and runs no script.
type page struct {
	Title string
	Text  string
	// Server follows Text in a line of its own. It is empty if there is none.
	Server string
	// Detail is the text of an error. It is empty if there is none.
	Detail string
	// Next says what the person can do now. It is empty if there is nothing to do.
	Next string
	// Good marks success.
	Good bool
}

var (
	pageWrongHost = page{Title: "Not for this address",
		Text: "This request names a host that does not belong to this sign-in. Nothing was changed."}
	pageOutOfDate = page{Title: "This page is out of date",
		Text: "It belongs to another sign-in than the one that waits here. It was ignored.",
		Next: "If a sign-in is still open, finish it in its own tab. Otherwise, start it again."}
	pageUsed = page{Title: "This link was already used", Text: "It leads to a sign-in only once.",
		Next: "If the sign-in is still open, finish it in its own tab, or open the link that the program printed."}
	pageAgain = page{Title: "One more login page", Text: "The login server did not take this program as its client, so it was registered again.",
		Next: "Finish the sign-in in the tab that opens now, or open the link that the program printed."}
	pageNoLogin = page{Title: "No login page yet", Text: "The login server was asked for a login page and gave none.",
		Next: "Load this page again in a moment, or open the link that the program printed."}
)

// pageSignedIn says that the person is signed in to upstream.
func pageSignedIn(upstream string) page {
	return page{Title: "Signed in", Text: "You are signed in to", Server: upstream, Good: true,
		Next: "You can close this tab."}
}

// pageFailed says that the sign-in to upstream ended with err. retry says how the person starts it
// again. An empty retry gives a general sentence.
func pageFailed(upstream string, err error, retry string) page {
	return page{Title: "Not signed in", Text: "You are not signed in to", Server: upstream, Detail: err.Error(),
		Next: cmp.Or(retry, "Close this tab, then start the sign-in again.") +
			" If it ends the same way, show the line above to the person who runs the server."}
}

//go:embed page.css
var pageCSS string

var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"css": func() template.CSS { return template.CSS(pageCSS) },
	}).Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{.Title}}</title>
<style>{{css}}</style>
</head>
<body>
<main{{if .Good}} class="good"{{end}}>
<h1>{{.Title}}</h1>
<p>{{.Text}}{{if .Server}}<br><strong>{{.Server}}</strong>{{end}}</p>
{{if .Detail}}<pre>{{.Detail}}</pre>
{{end}}{{if .Next}}<p>{{.Next}}</p>
{{end}}</main>
</body>
</html>
`))
})

// pageCSP allows our own style sheet, by its hash, and nothing else.
var pageCSP = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
})

// discardLog takes what net/http says of a browser's broken connections.
var discardLog = log.New(io.Discard, "", 0)

// send writes the page as the whole answer.
func (p page) send(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageCSP())
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the address holds code and state
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	pageTemplate().Execute(w, p)
}
