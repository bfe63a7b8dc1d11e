// An OpenID provider for the end-to-end tests: npm's oidc-provider, which knows everybody who
// types a name, and says of them what their name says.
//
// node provider.mjs PORT; prints its issuer's URL when it listens. PORT 0 is any.
import crypto from "node:crypto";
import http from "node:http";
import Provider from "oidc-provider";

const server = http.createServer();
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = make(issuer);
  const standard = provider.callback();
  server.on("request", (request, response) => {
    const uid = /^\/interaction\/([\w-]+)$/.exec(request.url)?.[1];
    if (!uid) return standard(request, response);
    const answer = request.method === "POST" ? logIn(provider, request, response) : ask(uid, response);
    Promise.resolve(answer).catch((error) => response.writeHead(500).end(String(error)));
  });
  console.log(issuer);
});

function make(issuer) {
  const { privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig", kid: crypto.randomUUID() };
  const provider = new Provider(issuer, {
    clients: [{ client_id: "quorumscale", client_secret: "a secret: with + signs", redirect_uris: ["http://127.0.0.1/oidc/callback"] }],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "preferred_username", "picture"], groups: ["groups"] },
    scopes: ["openid", "email", "profile", "groups"],
    jwks: { keys: [key] },
    cookies: { keys: [crypto.randomUUID()] },
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    pkce: { required: () => false },
    findAccount: (_, id) => ({ accountId: id, claims: () => person(id) }),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope("openid email profile groups");
      await grant.save();
      return grant;
    },
  });
  // The replicas' addresses are not known before they run.
  provider.Client.prototype.redirectUriAllowed = (uri) => new URL(uri).pathname === "/oidc/callback";
  return provider;
}

// carol.unverified has no verified address, carol.guests is in the group guests.
function person(id) {
  const [name, ...marks] = id.split(".");
  return {
    sub: id,
    name: `The ${name}`,
    preferred_username: name,
    email: `${name}@example.com`,
    email_verified: !marks.includes("unverified"),
    picture: `https://example.com/${name}.png`,
    groups: [marks.includes("guests") ? "guests" : "staff"],
  };
}

function ask(uid, response) {
  response.writeHead(200, { "content-type": "text/html" }).end(
    `<!DOCTYPE html><title>Log in</title><form method="post" action="/interaction/${uid}">
     <input name="login" autofocus><button type="submit">Log in</button></form>`,
  );
}

async function logIn(provider, request, response) {
  let body = "";
  for await (const chunk of request) body += chunk;
  const accountId = new URLSearchParams(body).get("login");
  await provider.interactionFinished(request, response, { login: { accountId } }, { mergeWithLastSubmission: false });
}
