// A real MCP server of 2026-07-28 and nothing older, the TypeScript SDK's, on a loopback port of the system's choice.
//
//   node modern.mjs
//
// The first line on stdout is its URL. Tools: echo, whose `message` travels in the header Mcp-Param-Message too; ask, which wants
// an elicitation and then a sampling before it answers; change, which announces that the list of tools has changed.
// The server ends when its stdin does, so that it cannot outlive whoever started it.
import http from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, fromJsonSchema, inputRequired, McpServer } from '@modelcontextprotocol/server';

process.stdin.resume().on('end', () => process.exit(0));

const text = text => ({ content: [{ type: 'text', text }] });
const none = fromJsonSchema({ type: 'object', properties: {} });

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: 'typescript', version: '1.0.0' }, { capabilities: { tools: { listChanged: true } } });
  const message = fromJsonSchema({ type: 'object', properties: { message: { type: 'string', 'x-mcp-header': 'Message' } } });
  server.registerTool('echo', { inputSchema: message }, async ({ message }) => text(`Echo: ${message}`));
  server.registerTool('ask', { inputSchema: none }, async (_, ctx) => {
    const { inputResponses: given = {} } = ctx.mcpReq;
    const state = ctx.mcpReq.requestState();
    if (given.say) return text(`${state}, sampled ${given.say.content.text}`);
    if (given.really) {
      const say = inputRequired.createMessage({ maxTokens: 1, messages: [{ role: 'user', content: { type: 'text', text: 'say' } }] });
      return inputRequired({ inputRequests: { say }, requestState: `elicited ${given.really.action}` });
    }
    const really = inputRequired.elicit({ message: 'really?', requestedSchema: { type: 'object', properties: {} } });
    return inputRequired({ inputRequests: { really } });
  });
  server.registerTool('change', { inputSchema: none }, async () => {
    handler.notify.toolsChanged();
    return text('changed');
  });
  return server;
}, { legacy: 'reject' });

const server = http.createServer(toNodeHandler(handler));
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
