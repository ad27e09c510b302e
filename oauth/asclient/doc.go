// Package asclient sends requests to OAuth 2 authorization servers on behalf of one MCP upstream.
package asclient
