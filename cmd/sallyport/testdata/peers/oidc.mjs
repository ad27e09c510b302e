// A real authorization server (npm oidc-provider) on a loopback port of the system's choice.
//
//   node oidc.mjs OPTIONS
//
// OPTIONS is one JSON object, every field optional:
//   host            name in the issuer URL, default 127.0.0.1; the socket is on 127.0.0.1 all the same
//   port            default 0: the system's choice
//   cert, key       PEM files: serve https with them
//   accessTokenTTL  seconds, default 600
//   loginTTL        seconds for which login pages and codes are good, default oidc-provider's own
//   jwks            private keys (RFC 7517) to sign with, one of them RSA; default: well known ones
//   clients         pre-registered clients, as oidc-provider takes them (RFC 7591 names)
//   scopes          scopes that a resource knows, default ["mcp"]
//   dpopNonces      true: takes DPoP proofs only with the nonce that it gives
//   features        oidc-provider's features, laid over ours
//   extension       what idp.mjs adds, see there
//
// The first line on stdout is the issuer; each request is logged on stderr, without its query.
// The server ends when its stdin does, so that it cannot outlive whoever started it.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { Provider } from 'oidc-provider';

const options = JSON.parse(process.argv[2] ?? '{}');
const { host = '127.0.0.1', port = 0, jwks, accessTokenTTL = 600, loginTTL, clients = [], scopes = ['mcp'] } = options;
const tls = Boolean(options.cert);

process.stdin.resume().on('end', () => process.exit(0));

// The issuer holds the port, so the socket comes first and the provider after it.
const server = tls
  ? https.createServer({ cert: readFileSync(options.cert), key: readFileSync(options.key) })
  : http.createServer();
server.listen(port, '127.0.0.1', async () => {
  const issuer = `${tls ? 'https' : 'http'}://${host}:${server.address().port}`;
  const provider = new Provider(issuer, {
    ...(jwks && { jwks }),
    clients,
    scopes: ['openid', 'offline_access', ...scopes], // what a client may register with, mcp-remote does
    pkce: { required: () => true }, // S256 is the only method it knows
    // A loopback redirect URI of a native client matches with any port (RFC 8252, 7.3).
    clientDefaults: { application_type: 'native', token_endpoint_auth_method: 'none' },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    expiresWithSession: () => false,
    ttl: {
      AccessToken: accessTokenTTL, ClientCredentials: accessTokenTTL, IdToken: options.extension?.idTokenTTL ?? 3600,
      ...(loginTTL && { AuthorizationCode: loginTTL, Interaction: loginTTL, Session: loginTTL, Grant: loginTTL }),
    },
    cookies: { keys: ['only a test'] },
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: true },
      revocation: { enabled: true },
      introspection: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => ({
          audience: resource,
          scope: scopes.join(' '),
          accessTokenTTL,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
      deviceFlow: { enabled: true },
      ...(options.dpopNonces && { dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true } }),
      ...options.features,
    },
  });
  if (options.extension) (await import('./idp.mjs')).default(provider, options);
  provider.use(async (ctx, next) => {
    await next();
    const grant = ctx.oidc?.params?.grant_type ?? '';
    process.stderr.write(`${ctx.method} ${ctx.path} ${ctx.status} ${grant}\n`);
  });
  for (const event of ['server_error', 'grant.error', 'authorization.error', 'registration_create.error']) {
    provider.on(event, (_ctx, err) => process.stderr.write(`${event}: ${err.message} ${err.error_description ?? ''}\n`));
  }
  server.on('request', provider.callback());
  process.stdout.write(`${issuer}\n`);
});
