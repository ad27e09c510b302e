package callback

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"sync"
	"time"
)

// page is one of our pages. It has no script and loads nothing.
type page struct {
	// Kind is a class of the style sheet: "ask", "good", "wait", or "bad", which is the default.
	Kind string
	// Title is what the page says first.
	Title string
	// Text follows it.
	Text string
	// Facts are rows of a name and a value.
	Facts []fact
	// Detail is the text of an error. It is empty if there is none.
	Detail string
	// Next says what the person can do now. It is empty if there is nothing to do.
	Next string
	// Links are what the person may choose from.
	Links []choiceLink
	// Form asks the person. It is nil if there is nothing to ask.
	Form *form
	// Refresh is after how many seconds the page loads itself again. Never if it is 0.
	Refresh int
	// Target is where the browser goes at once. It is empty if the page stays.
	Target string
}

// fact is one row of a page.
type fact struct{ Name, Value string }

// choiceLink is one thing to choose: its name, and the path that chooses it.
type choiceLink struct{ Name, Path string }

// form is what a page asks.
type form struct {
	// Action is the path that takes the answer, and Token what proves that it comes from the page.
	Action, Token string
	// Continue and Refuse are the words of the buttons. Without Refuse there is one button.
	Continue, Refuse string
	// Remember is the question whether to ask again. It is empty if that is not asked.
	Remember string
}

var (
	pageWrongHost = page{Title: "Not for this address",
		Text: "This request names a host that does not belong to this sign-in. Nothing was changed."}
	pageOutOfDate = page{Title: "This page is out of date",
		Text: "It belongs to no sign-in that waits on this machine. It was ignored.",
		Next: "If a sign-in is still open, finish it in its own tab. Otherwise, start it again."}
	pageUsed = page{Title: "This link was already used", Text: "It leads to a sign-in only once.",
		Next: "If the sign-in is still open, finish it in its own tab. Otherwise, start it again."}
	pageTooLong = page{Title: "Not signed in", Text: "The login server sent an answer that is too long. Nothing was changed.",
		Next: "Show this page to the person who runs the login server."}
	pageNoForm = page{Title: "Nothing was changed", Text: "This answer does not come from the page that asked.",
		Next: "Go back to the tab of the sign-in, and load it again."}
	pageAgain = page{Title: "One more login page", Text: "The sign-in goes on in the tab that opens now.", Next: "You can close this tab."}
)

// pageOfLocked returns the page of a login as it is now. The name is that by which the browser
// asks.
func (l *login) pageOfLocked(name string, now time.Time) page {
	facts := []fact{{"to", l.upstream}}
	switch host := l.from.name(); {
	case name != l.page.name:
		return pageAgain
	case l.phase == finished || l.phase == concluded:
		return l.outcomePage(facts)
	case l.phase == refused:
		return page{Title: "Refused", Text: "The sign-in was refused. Nothing was opened, and " + host + " was told.", Facts: facts,
			Next: "You can close this tab."}
	case l.phase == expired:
		return page{Title: "Too late", Text: "Nobody finished this sign-in in time, or " + host + " did not come back in time.", Facts: facts,
			Next: "Start it again on " + host + "."}
	case endedLocked(l):
		return endedPage(l, facts, now)
	case l.phase == returned && l.awayLocked():
		return pageAway(host, facts, l.expires)
	case l.phase == returned:
		return page{Kind: "wait", Title: "Almost done", Text: host + " fetches the token. This page goes on by itself.", Facts: facts, Refresh: 1}
	case l.page.going && l.freshLocked(now) && !l.searchLocked():
		return page{Kind: "wait", Title: "One moment", Text: "The login server " + l.origin + " is looked for. This page goes on by itself.", Refresh: 1}
	case l.page.going && l.freshLocked(now) && l.page.far.side == farSide:
		return farPage(l)
	case l.page.going && l.freshLocked(now):
		return page{Kind: "wait", Title: "To the login page", Text: "The login page opens at " + l.origin + ".", Target: l.link}
	case l.page.going && l.awayLocked():
		return page{Kind: "wait", Title: host + " is away", Text: "The link to the login page has expired, and only " + host + " can make a new one. " +
			"This goes on by itself as soon as " + host + " is back.", Facts: append(facts, until(l.expires)), Refresh: 2}
	case l.page.going:
		return page{Kind: "wait", Title: "One moment", Text: host + " makes a new link to the login page. This page goes on by itself.", Refresh: 1}
	}
	return l.askPage(facts)
}

// endedPage says that the program that wanted the login runs no more. It goes on to the next login
// for as long as it is kept.
func endedPage(l *login, facts []fact, now time.Time) page {
	host := l.from.name()
	if l.phase == ended {
		p := page{Title: "This sign-in is over", Text: host + " does not wait for it any more: it was cancelled there, or finished in another way.",
			Facts: facts, Next: "You can close this tab."}
		if now.Sub(l.page.awaySince) < keepPage-tabTime {
			p.Refresh = 2
		}
		return p
	}
	p := page{Kind: "wait", Title: "The program on " + host + " has ended", Text: "It wanted this sign-in, and does not run any more. ",
		Facts: append(facts, until(l.expires)), Next: "If it does not start by itself, start it again on " + host + ".", Refresh: 2}
	if l.query != "" {
		p.Text = "You have signed in, but it is not there any more to fetch the token. "
	}
	p.Text += "When it asks again, this page goes on by itself."
	return p
}

// farPage says how the login page is reached, or that it is not.
func farPage(l *login) page {
	far := l.page.far
	p := page{Kind: "ask", Title: "Only " + l.from.name() + " reaches the login server", Text: far.result.Words,
		Facts: []fact{{"the page", l.desk.pages.url(farPath, far.name)}},
		Form:  &form{Action: loginPath + l.page.name, Token: l.page.token, Continue: "Try again"}, Refresh: 5}
	if far.result.Unreached {
		p.Kind, p.Title, p.Detail = "", "The login server is not reached", shownLong(far.result.Why)
	}
	return p
}

// pageNext leads to the page of the next login that wants the same.
func pageNext(host, link string) page {
	return page{Kind: "wait", Title: "One moment", Text: "The program on " + host + " has begun the sign-in anew. This page goes on by itself.", Target: link}
}

// until says how long the login is waited for.
func until(t time.Time) fact { return fact{"until", t.Local().Format(time.TimeOnly)} }

// pageAway says that the callback is kept until HOST is back.
func pageAway(host string, facts []fact, expires time.Time) page {
	return page{Kind: "wait", Title: host + " is away", Text: "You have signed in, and the answer is kept here. " +
		"This goes on by itself as soon as " + host + " is back.", Facts: append(facts, until(expires)), Refresh: 2,
		Next: "Has the program there ended meanwhile? Start it again: this page goes on with its next sign-in."}
}

// askPage asks whether to open the login page, or says that it is open.
func (l *login) askPage(facts []fact) page {
	host := l.from.name()
	facts = append(facts, fact{"at", l.origin})
	if l.issuer != "" && originOf(l.issuer) != l.origin {
		facts = append(facts, fact{"login server, as " + host + " says", l.issuer})
	}
	p := page{Kind: "ask", Facts: facts, Form: &form{Action: loginPath + l.page.name, Token: l.page.token}}
	if l.phase == opened {
		p.Title, p.Text = "The login page is open", "Finish the sign-in there. "+l.page.far.result.Words
		p.Form.Continue = "Open it again"
		if l.page.far.result.Opened { // the person may look at this page meanwhile
			p.Refresh = 3
		}
		return p
	}
	p.Title = host + " wants to sign in"
	p.Text = "A program on " + host + " asks you to sign in. It can then act in your name at the address below."
	if l.desk.cfg.Trust.HasOther(entryOf(l)) {
		p.Text += " You are asked again because this is not the program (client ID) of before, and may be allowed more."
		p.Facts = append(p.Facts, fact{"client ID", shown(l.client)})
	}
	p.Next = "Continue only if you, or a program of yours, started this. The login page opens in this tab."
	p.Form.Continue, p.Form.Refuse = "Continue", "Refuse"
	p.Form.Remember = fmt.Sprintf("Do not ask again for this program of %s at %s", host, l.origin)
	return p
}

// outcomePage says how the code exchange went.
func (l *login) outcomePage(facts []fact) page {
	if l.outcome.OK {
		return page{Kind: "good", Title: "Signed in", Text: l.from.name() + " is signed in.", Facts: facts, Next: "You can close this tab."}
	}
	return page{Title: "Not signed in", Text: l.from.name() + " is not signed in. It says:", Detail: shownLong(l.outcome.Text), Facts: facts,
		Next: "Close this tab, then start the sign-in on " + l.from.name() + " again."}
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
<main{{with .Kind}} class="{{.}}"{{end}}>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{if .Detail}}<pre>{{.Detail}}</pre>
{{end}}{{if .Facts}}<dl>
{{range .Facts}}{{if .Value}}<dt>{{.Name}}</dt><dd>{{.Value}}</dd>
{{end}}{{end}}</dl>
{{end}}{{if .Next}}<p>{{.Next}}</p>
{{end}}{{range .Links}}<p><a href="{{.Path}}" rel="noreferrer">{{.Name}}</a></p>
{{end}}{{if .Target}}<p><a href="{{.Target}}" rel="noreferrer">Go there now</a></p>
{{end}}{{with .Form}}<form method="post" action="{{.Action}}">
<input type="hidden" name="token" value="{{.Token}}">
{{if .Remember}}<p><label><input type="checkbox" name="remember" value="yes" checked> {{.Remember}}</label></p>
{{end}}<p><button name="choice" value="continue">{{.Continue}}</button>
{{if .Refuse}}<button name="choice" value="refuse" class="quiet">{{.Refuse}}</button>
{{end}}</p>
</form>
{{end}}</main>
</body>
</html>
`))
})

// pageCSP allows our own style sheet, by its hash, and nothing else. The forms go to our own
// origin.
var pageCSP = sync.OnceValue(func() string {
	sum := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
})

// send writes the page as the whole answer.
func (p page) send(w http.ResponseWriter, status int) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pageCSP())
	h.Set("Cache-Control", "no-store")
	// The address is a secret. Within our origin it is sent, so that a form has an Origin header.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	switch {
	case p.Target != "":
		// Not a redirect: the answer to a form may lead only where form-action allows, and the
		// login server may lead anywhere.
		h.Set("Refresh", "0; url="+p.Target)
	case p.Refresh > 0:
		h.Set("Refresh", fmt.Sprint(p.Refresh))
	}
	w.WriteHeader(status)
	pageTemplate().Execute(w, p)
}
