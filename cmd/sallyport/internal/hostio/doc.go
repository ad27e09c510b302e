// Package hostio is the proxy's end of its MCP host: stdin, stdout, the parent process, and the
// memory that a proxy takes beside many others. What differs between systems has one file for each.
package hostio
