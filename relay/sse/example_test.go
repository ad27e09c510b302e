package sse_test

import (
	"fmt"
	"io"
	"strings"

	"sallyport/relay/sse"
)

func ExampleEvents() {
	stream := strings.NewReader("id: 1\nretry: 500\n\ndata: {\"a\":\ndata: 1}\n\n: a comment\n\n")
	for e, err := range sse.Events(stream, 1<<20, nil) {
		if err != nil {
			fmt.Println("the stream ended:", err == io.EOF)
			break
		}
		fmt.Printf("id %s retry %v message %v %q\n", e.ID, e.Retry, e.HasMessage(), e.Data)
	}
	// Output:
	// id 1 retry 500ms message false ""
	// id 1 retry -1ns message true "{\"a\":\n1}"
	// the stream ended: true
}
