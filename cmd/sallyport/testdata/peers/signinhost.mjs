// A host of the TypeScript SDK whose person signs in while its model waits.
//
//   node signinhost.mjs COMMAND [ARGUMENT...]
//
// stdout: one JSON line a step, {step, ...}: tools, link (whether the first answer of the sign-in
// tool begins with one), connected (the tools that the host has at that moment, and whether the
// answer says so), echo, error. The command's stderr is passed on.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const [command, ...args] = process.argv.slice(2);
const say = (step, more) => process.stdout.write(JSON.stringify({ step, ...more }) + '\n');
let tools = [];
const client = new Client({ name: 'sallyport-test-host', version: '1.0.0' }, {
  listChanged: { tools: { onChanged: (error, list) => { if (!error) tools = list; } } },
});
const text = async name => (await client.callTool({ name })).content[0].text;
try {
  await client.connect(new StdioClientTransport({ command, args, env: process.env, stderr: 'inherit' }));
  tools = (await client.listTools()).tools;
  say('tools', { tools: tools.map(tool => tool.name) });
  say('link', { link: /^https?:\S+\n/.test(await text('sallyport_sign_in')) });
  const answer = await text('sallyport_sign_in');
  say('connected', { tools: tools.map(tool => tool.name), listed: answer.includes('in your list of tools: call them') });
  const { content } = await client.callTool({ name: 'echo', arguments: { message: 'hello' } });
  say('echo', { text: content[0].text });
  await client.close();
} catch (err) {
  say('error', { message: String(err.message ?? err) });
  process.exitCode = 1;
}
