// Package hostio is the proxy's side of its MCP host: stdin, the parent process, and the memory
// that a proxy takes beside many others. Code that differs between systems has one file for each.
package hostio
