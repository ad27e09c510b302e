// An SSH server of npm's ssh2 on loopback, for the tests of sshtunnel: first a key, then a code if
// there is one. Arguments: private host key, authorized public key, the code or "", and "keep" to refuse to
// take remote forwards back. It prints its port, and ends with its stdin.
import { readFileSync } from 'node:fs';
import net from 'node:net';
import ssh2 from 'ssh2';

const [hostKeyFile, authorizedFile, code, keep] = process.argv.slice(2);
const authorized = ssh2.utils.parseKey(readFileSync(authorizedFile));

function authenticate(ctx, keyShown) {
  if (ctx.method === 'publickey') {
    const known = ctx.key.data.equals(authorized.getPublicSSH());
    const signed = known && ctx.signature && authorized.verify(ctx.blob, ctx.signature, ctx.hashAlgo) === true;
    if (known && !ctx.signature) return ctx.accept(); // only asked whether the key would do
    if (signed && !code) return ctx.accept();
    if (signed) keyShown();
    return ctx.reject(['keyboard-interactive'], Boolean(signed));
  }
  if (ctx.method === 'keyboard-interactive' && keyShown.done) {
    return ctx.prompt([{ prompt: 'Code: ', echo: false }], ([answer]) => (answer === code ? ctx.accept() : ctx.reject()));
  }
  ctx.reject(['publickey']);
}

const server = new ssh2.Server({ hostKeys: [readFileSync(hostKeyFile)] }, (client) => {
  const listeners = new Map(); // by port
  const keyShown = () => { keyShown.done = true; };
  const pipe = (a, b) => { a.on('error', () => b.destroy()); a.pipe(b); };
  client.on('error', () => {}); // a client that leaves without a word
  client.on('close', () => listeners.forEach((l) => l.close()));
  client.on('authentication', (ctx) => authenticate(ctx, keyShown));
  client.on('tcpip', (accept, reject, info) => {
    const far = net.connect({ host: info.destIP, port: info.destPort, allowHalfOpen: true });
    far.once('error', () => reject());
    far.once('connect', () => {
      const channel = accept();
      pipe(channel, far);
      pipe(far, channel);
    });
  });
  client.on('request', (accept, reject, name, info) => {
    if (name === 'tcpip-forward') {
      const listener = net.createServer({ allowHalfOpen: true }, (conn) => {
        const refused = (err, channel) => {
          if (err) return conn.destroy();
          pipe(channel, conn);
          pipe(conn, channel);
        };
        client.forwardOut(info.bindAddr, listener.address().port, conn.remoteAddress, conn.remotePort, refused);
      });
      listener.once('error', () => reject());
      listener.listen(info.bindPort, info.bindAddr, () => {
        listeners.set(listener.address().port, listener);
        accept(listener.address().port);
      });
    } else if (name === 'cancel-tcpip-forward' && !keep) {
      listeners.get(info.bindPort)?.close();
      accept?.();
    } else {
      reject?.();
    }
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
process.stdin.resume().on('end', () => process.exit());
