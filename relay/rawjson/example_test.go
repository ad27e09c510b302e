package rawjson_test

import (
	"fmt"

	"sallyport/relay/rawjson"
)

// A request is changed in one place, and all its other bytes stay as they came.
func ExampleSet() {
	m, err := rawjson.Parse([]byte(`{"id":7, "method":"tools/call", "params":{"name":"sum","arguments":{"n":12345678901234567890}}}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Kind == rawjson.Request, m.Method, rawjson.MemberText(m.Params, "name"))
	fmt.Printf("%s\n", rawjson.Set(m.Raw, rawjson.Quote("en"), "params", "_meta", "lang"))
	// Output:
	// true tools/call sum
	// {"id":7, "method":"tools/call", "params":{"name":"sum","arguments":{"n":12345678901234567890},"_meta":{"lang":"en"}}}
}
