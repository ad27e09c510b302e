// What oidc.mjs becomes with an extension: the two sides of MCP's Enterprise-Managed Authorization.
//
// Options, as a member "extension" of those of oidc.mjs:
//   exchanges      the client ID that assertions name: this is an identity provider, which exchanges ID tokens (RFC
//                  8693) for identity assertion authorization grants (ID-JAG), as long as their grant lives
//   trusts         the issuer of an identity provider: this is an MCP server's authorization server, which takes
//                  that provider's assertions (RFC 7523) after checking them by its jwks_uri
//   idTokenTTL     seconds, default 3600
import { createRemoteJWKSet, importJWK, jwtVerify, SignJWT } from 'jose';
import { errors } from 'oidc-provider';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const ID_TOKEN = 'urn:ietf:params:oauth:token-type:id_token';
const ID_JAG = 'urn:ietf:params:oauth:token-type:id-jag';
const TYP = 'oauth-id-jag+jwt';

export default function extend(provider, { extension, jwks, scopes = ['mcp'], accessTokenTTL = 600 }) {
  if (extension.exchanges) exchangeIDTokens(provider, extension.exchanges, jwks);
  if (extension.trusts) takeAssertions(provider, extension.trusts, scopes, accessTokenTTL);
}

function exchangeIDTokens(provider, clientID, jwks) {
  // A real provider looks at the session. Here an ID token is good as long as the grant that it was issued for.
  const grants = new Map();
  provider.on('grant.success', ctx => {
    if (ctx.body.id_token) grants.set(ctx.body.id_token, ctx.oidc.entities.Grant.jti);
  });
  provider.on('grant.revoked', (_ctx, grant) => {
    for (const [idToken, of] of grants) if (of === grant) grants.delete(idToken);
  });
  const params = ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'];
  provider.registerGrantType(EXCHANGE, async ctx => {
    const { client, params: p } = ctx.oidc;
    if (p.subject_token_type !== ID_TOKEN || p.requested_token_type !== ID_JAG || !p.audience) {
      throw new errors.InvalidRequest('an ID token is exchanged for an ID-JAG of one audience');
    }
    let payload;
    try {
      ({ payload } = await provider.IdToken.validate(p.subject_token, client));
    } catch {
      throw new errors.InvalidRequest('subject_token is no ID token of this client');
    }
    if (payload.exp <= Date.now() / 1000) throw new errors.InvalidRequest('subject_token has expired');
    if (!grants.has(p.subject_token)) throw new errors.InvalidRequest('the session of subject_token has ended');
    const assertion = await new SignJWT({ client_id: clientID, resource: p.resource, scope: p.scope })
      .setProtectedHeader({ alg: 'RS256', kid: jwks.keys[0].kid, typ: TYP })
      .setIssuer(provider.issuer).setSubject(payload.sub).setAudience(p.audience)
      .setJti(crypto.randomUUID()).setIssuedAt().setExpirationTime('60s')
      .sign(await importJWK(jwks.keys[0], 'RS256'));
    ctx.body = { access_token: assertion, issued_token_type: ID_JAG, token_type: 'N_A', expires_in: 60, scope: p.scope };
  }, params);
}

function takeAssertions(provider, trusted, scopes, accessTokenTTL) {
  const used = new Set();
  let keys;
  provider.registerGrantType(JWT_BEARER, async ctx => {
    const { client, params: p } = ctx.oidc;
    if (!keys) {
      const metadata = await (await fetch(`${trusted}/.well-known/openid-configuration`)).json();
      keys = createRemoteJWKSet(new URL(metadata.jwks_uri));
    }
    let payload;
    try {
      ({ payload } = await jwtVerify(p.assertion, keys, {
        issuer: trusted, audience: provider.issuer, typ: TYP, requiredClaims: ['jti', 'exp', 'sub', 'client_id'],
      }));
    } catch (err) {
      throw new errors.InvalidGrant(`assertion: ${err.code}`);
    }
    if (payload.client_id !== client.clientId || used.has(payload.jti)) {
      throw new errors.InvalidGrant('the assertion is for another client, or was used');
    }
    used.add(payload.jti);
    const resource = p.resource ?? payload.resource;
    if (resource !== payload.resource) throw new errors.InvalidTarget('the assertion is for another resource');
    const token = new provider.AccessToken({ client, accountId: payload.sub, gty: JWT_BEARER, scope: scopes.join(' ') });
    token.resourceServer = new provider.ResourceServer(resource, {
      audience: resource, scope: scopes.join(' '), accessTokenTTL, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
    });
    ctx.body = {
      access_token: await token.save(), token_type: token.tokenType, expires_in: token.expiration, scope: token.scope,
    };
  }, ['assertion', 'resource', 'scope']);
}
