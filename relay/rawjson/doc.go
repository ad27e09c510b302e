// Package rawjson looks into JSON texts (RFC 8259), and changes parts of them, without decoding the
// whole.
//
// A proxy has to pass on what it does not know. Decoding a message and encoding it again would lose
// numbers beyond 64 bits, repeated keys, the order of keys and the way that characters are escaped.
// So this package finds values in a text and hands them out as the bytes they are, called "raw"
// values here. [Set] and [Edit] splice new bytes in and leave all others alone.
//
//	{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}
//	                      |          '-----------'         '----------'
//	          Message.ID -+          Message.Method        Message.Params
//
// [Parse] checks a whole text and finds the few members that a JSON-RPC message has. The other
// functions take raw values that Parse has accepted. They do not fail: on anything else they find
// nothing. No function keeps or changes the bytes that it is given, unless its comment says so, and
// all of them may be called concurrently. What they return shares memory with what they were given.
// But for Message.Raw its capacity is cut, so that appending to it cannot reach into what follows.
package rawjson
