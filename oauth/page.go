package oauth

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"log"
	"net/http"
)

// page is what the browser shows at the end. It loads nothing and runs nothing.
type page struct {
	Title  string
	Text   string
	Server string // set apart in its own line; "" none
	Detail string // an error; "" none
	Next   string // what to do
	Good   bool
}

//go:embed page.css
var pageCSS string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
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

var pageCSP = func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

var discardLog = log.New(io.Discard, "", 0) // a browser's broken connection is not our news

func (p page) send(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageCSP)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer") // the address holds code and state
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	pageTemplate.Execute(w, p)
}
