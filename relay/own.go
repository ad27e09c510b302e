package relay

import (
	"bytes"
	"encoding/json"
	"slices"

	"sallyport/relay/rawjson"
)

// The messages of our own. All parameters but method names are raw.

const methodInitialized = "notifications/initialized"

// requestLine is a request. Nil params mean that it has none.
func requestLine(id []byte, method string, params []byte) []byte {
	head := slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), id, []byte(`,"method":`), rawjson.Quote(method))
	return finishLine(head, params)
}

// finishLine ends a message with its params.
func finishLine(head, params []byte) []byte {
	if params != nil {
		head = slices.Concat(head, []byte(`,"params":`), params)
	}
	return append(head, '}')
}

// resultLine is the answer to the request id.
func resultLine(id, result []byte) []byte {
	return slices.Concat([]byte(`{"jsonrpc":"2.0","id":`), id, []byte(`,"result":`), result, []byte("}"))
}

// ownNotification is a notification. Nil params mean that it has none.
func ownNotification(method string, params []byte) rawjson.Message {
	head := slices.Concat([]byte(`{"jsonrpc":"2.0","method":`), rawjson.Quote(method))
	return rawjson.Message{Kind: rawjson.Notification, Method: method, Params: params, Raw: finishLine(head, params)}
}

// cancelNotification says that nobody waits any more for the request id.
func cancelNotification(id []byte, reason string) rawjson.Message {
	params := slices.Concat([]byte(`{"requestId":`), id, []byte(`,"reason":`), rawjson.Quote(reason), []byte("}"))
	return ownNotification("notifications/cancelled", params)
}

// listChanged says that a list of the given capability has changed.
func listChanged(capability string) []byte {
	return ownNotification("notifications/"+capability+"/list_changed", nil).Raw
}

// encode returns v as JSON. It is for values that cannot fail to encode.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // URLs stay readable
	enc.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n")
}
