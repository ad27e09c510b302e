// A real MCP host: the TypeScript SDK's stdio client starts a server and works with it.
//
//   node host.mjs COMMAND [ARGUMENT...]
//
// stdout: one JSON line a step, {step, ...}: initialize, tools/list, tools/call (of `echo`),
// notification (the first log message of server-everything, of another server the first of any
// kind), close. The command's stderr is passed on.
// The exit status is 1 where a step fails, and the last line then is {step: "error", message}.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const [command, ...args] = process.argv.slice(2);
const say = (step, more) => process.stdout.write(JSON.stringify({ step, ...more }) + '\n');

const client = new Client({ name: 'sallyport-test-host', version: '1.0.0' });
const notified = {}; // method, or "any" -> a promise of the first such notification
const first = {};
for (const kind of ['any', 'notifications/message']) {
  notified[kind] = new Promise(resolve => { first[kind] = resolve; });
}
client.fallbackNotificationHandler = async notification => {
  first.any(notification);
  first[notification.method]?.(notification);
};
const transport = new StdioClientTransport({ command, args, env: process.env, stderr: 'inherit' });
try {
  await client.connect(transport);
  say('initialize', { server: client.getServerVersion(), protocolVersion: transport.protocolVersion });

  const { tools } = await client.listTools();
  const names = tools.map(tool => tool.name);
  say('tools/list', { tools: names });

  const { content } = await client.callTool({ name: 'echo', arguments: { message: 'grüße 🚪' } });
  say('tools/call', { content });

  // server-everything sends log messages on the GET stream once it is asked to.
  const logs = names.includes('toggle-simulated-logging');
  if (logs) await client.callTool({ name: 'toggle-simulated-logging' });
  const { method, params } = await notified[logs ? 'notifications/message' : 'any'];
  say('notification', { method, params });

  await client.close();
  say('close');
} catch (err) {
  say('error', { message: String(err.message ?? err) });
  await client.close().catch(() => {});
  process.exitCode = 1;
}
