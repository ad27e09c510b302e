package rawjson_test

import (
	"fmt"

	"sallyport/relay/rawjson"
)

// A request is changed in one place, and all its other bytes stay as they came.
func ExampleSet() {
	m, err := rawjson.Parse([]byte(`{"id":7,"method":"tools/call", "params":{"name":"f","n":9007199254740993}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Kind == rawjson.Request, m.Method, rawjson.MemberText(m.Params, "name"))
	fmt.Printf("%s\n", rawjson.Set(m.Raw, rawjson.Quote("en"), "params", "_meta", "l"))
	// Output:
	// true tools/call f
	// {"id":7,"method":"tools/call", "params":{"name":"f","n":9007199254740993,"_meta":{"l":"en"}}}
}
