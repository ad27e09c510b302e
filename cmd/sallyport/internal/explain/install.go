package explain

import (
	"cmp"

	"sallyport/cmd/sallyport/internal/install"
)

// installRows explain the errors of install and uninstall.
var installRows = []row{
	on(func(e *install.TakenError) Explanation {
		free := "--name " + cmp.Or(e.Free, "NAME")
		list := hints(free + " puts sallyport beside it, under another name")
		switch {
		case e.Free == "": // of uninstall
			list = hints("it is not sallyport's, and is left alone; sallyport install --list shows what is")
		case e.Kind == install.Ours:
			list = hints(free+" puts the new one beside it", "--name "+e.Name+" replaces it")
		case e.SameUpstream:
			list = hints("--replace puts sallyport in its place, and keeps its env block", free+" puts sallyport beside it")
		}
		return Explanation{Kind: KindConfig, Text: e.Error(), Hints: list, Status: StatusUsage}
	}),
	on(func(e *install.SeveralError) Explanation {
		return Explanation{Kind: KindConfig, Text: e.Error(), Status: StatusUsage, Hints: []string{
			"say which one: --name NAME, --client-scope SCOPE, or its URL",
		}}
	}),
	on(func(e *install.SyntaxError) Explanation {
		return Explanation{Kind: KindConfig, Text: e.Error(), Status: StatusUsage, Hints: []string{
			"the file is unchanged: mend that place in an editor, then type this again",
		}}
	}),
	on(func(e *install.ReadOnlyError) Explanation {
		list := hints("chmod u+w " + e.Target + ", if it is meant to be changed")
		if e.Path != e.Target {
			list = append(list, "a dotfile manager made that link: --dry-run shows what to put into its source")
		}
		return Explanation{Kind: KindConfig, Text: e.Error(), Status: StatusUsage, Hints: list}
	}),
	on(func(e *install.BusyError) Explanation {
		return Explanation{Kind: KindOther, Text: e.Error(), Status: StatusFailed, Hints: []string{
			"the file is unchanged: end the host, then type this again",
		}}
	}),
}
