/**
 * Intended differences from @fastify/http-proxy. The test compares the corpus with this list both ways, and docs/forwarding.md
 * repeats it.
 */
export interface Difference {
  readonly what: string
  readonly reason: string
  /** `exchange`: one of the two does not forward the request at all, so there is nothing to compare. */
  readonly side: 'request' | 'response' | 'exchange'
  /** Lower-case field names, or `(status)`, `(target)`, … */
  readonly parts?: readonly string[]
  /** Names of cases; without it, every case that both forward. */
  readonly cases?: readonly string[]
  readonly except?: readonly string[]
}

export const DIFFERENCES: readonly Difference[] = [
  {
    what: '`Via` is added on the way out',
    reason: 'RFC 9110 section 7.6.3 asks it of every proxy; loops become visible.',
    side: 'request',
    parts: ['via'],
  },
  {
    what: '`X-Forwarded-For`, `-Proto` and `-Host` are set',
    reason: 'The upstream needs to know whom it serves. What a stranger wrote there is not believed.',
    side: 'request',
    parts: ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host'],
  },
  {
    what: '`X-Request-Id` is added to the request',
    reason: 'One id joins the logs of client, gateway and upstream. A valid one of the client is kept.',
    side: 'request',
    parts: ['x-request-id'],
    except: ['a request id'],
  },
  {
    what: '`X-Forwarded-Port`, `Forwarded` and `X-Real-IP` of a stranger are dropped',
    reason: 'Only a trusted proxy may say where a request came from.',
    side: 'request',
    parts: ['x-forwarded-port', 'forwarded', 'x-real-ip'],
    cases: ['fields that say where it came from'],
  },
  {
    what: '`Proxy`, `Remote-User`, `X-Client-*`, `X-SSL-*` and the like are dropped',
    reason: 'Backends believe them ([security](security.md#proxies-in-front)).',
    side: 'request',
    parts: ['proxy', 'remote-user', 'x-client-cert', 'x-ssl-client-verify'],
    cases: ['fields by which servers say who is calling'],
  },
  {
    what: '`X-Original-URL`, `X-Rewrite-URL` and method overrides are dropped',
    reason: 'They make a backend serve another path or method than the one that was routed and counted.',
    side: 'request',
    parts: ['x-original-url', 'x-rewrite-url', 'x-http-method-override'],
    cases: ['fields that name another path or method'],
  },
  {
    what: '`TE`, `Proxy-Connection` and `Proxy-Authorization` are dropped',
    reason: 'They are for the next hop only (RFC 9110 section 7.6.1).',
    side: 'request',
    parts: ['te', 'proxy-connection', 'proxy-authorization'],
    cases: ['fields of one connection'],
  },
  {
    what: 'Repeated request fields stay separate',
    reason:
      'http-proxy sees them joined, or only the first one, as Node does; the upstream should see what came.',
    side: 'request',
    parts: ['x-a'],
    cases: ['a field twice'],
  },
  {
    what: 'Repeated `Cookie` fields stay separate',
    reason: 'The same.',
    side: 'request',
    parts: ['cookie'],
    cases: ['cookies in two fields'],
  },
  {
    what: 'A second `User-Agent` or `Authorization` is passed on',
    reason: 'The same. Fields that name a consumer are an exception: twice is 400.',
    side: 'request',
    parts: ['user-agent', 'authorization'],
    cases: ['fields that Node keeps one of'],
  },
  {
    what: 'The body of a GET is passed on',
    reason: 'Fastify leaves it unread; some searches are sent that way.',
    side: 'request',
    parts: ['(body)', 'content-length'],
    cases: ['GET with a body'],
  },
  {
    what: 'A body that its method does not call for goes with `Connection: close`',
    reason:
      'A server that leaves it unread would take it for the next request. http-proxy closes, too, without saying so.',
    side: 'request',
    parts: ['connection'],
    cases: ['GET with a body', 'DELETE with a body', 'OPTIONS with a body'],
  },
  {
    what: 'The path is forwarded in its canonical form',
    reason: 'One form decides route, cost and what the upstream gets, so that no spelling gets past a limit.',
    side: 'request',
    parts: ['(target)'],
    cases: ['escapes in lower case', 'escapes that need not be', 'two slashes'],
  },
  {
    what: 'What no URI may hold (`"`, `<`, `>`, `^`, `` ` ``, `{`, `}`; a bar; in a query a backslash) goes on escaped',
    reason: 'Browsers send some of it, and servers refuse it or read it in two ways (RFC 3986).',
    side: 'request',
    parts: ['(target)'],
    cases: ['a query of odd characters'],
  },
  {
    what: 'A path with `;`, `%2F` or a dot segment is 400',
    reason: 'Backends read them differently. A route can allow the first two with `allow_encoded`.',
    side: 'exchange',
    cases: ['a semicolon in the path', 'an escaped slash', 'a dot segment', 'a dot segment that goes up'],
  },
  {
    what: 'A segment that ends in dots is passed on',
    reason: 'http-proxy takes it for one that goes up.',
    side: 'exchange',
    cases: ['dots that are no dot segment'],
  },
  {
    what: 'Every method but CONNECT and TRACE is passed on',
    reason: 'http-proxy knows seven unless told otherwise.',
    side: 'exchange',
    cases: ['PROPFIND', 'PURGE'],
  },
  {
    what: '`Expect: 100-continue` is answered by the gateway',
    reason: 'http-proxy passes it to undici, which refuses it: 500.',
    side: 'exchange',
    cases: ['Expect'],
  },
  {
    what: 'A 304 may have a `Content-Length`',
    reason: 'RFC 9110 section 8.6 allows it; http-proxy makes it 500.',
    side: 'exchange',
    cases: ['304 with a length'],
  },
  {
    what: '`Via` is added on the way back',
    reason: 'RFC 9110 section 7.6.3.',
    side: 'response',
    parts: ['via'],
  },
  {
    what: '`X-Request-Id` is added to the response',
    reason:
      'The caller can name the request to whoever reads the logs. It takes the place of the upstream’s.',
    side: 'response',
    parts: ['x-request-id'],
  },
  {
    what: 'The reason phrase is the upstream’s',
    reason: 'http-proxy writes the usual one, or `unknown`.',
    side: 'response',
    parts: ['(reason)'],
    cases: ['200 with a reason of its own', '299', '599'],
  },
  {
    what: '`103 Early Hints` is passed on',
    reason: 'Browsers preload by it. http-proxy drops it.',
    side: 'response',
    parts: ['(interim)'],
    cases: ['103 before 200'],
  },
  {
    what: '`Connection` and `Keep-Alive` are those of the client’s own connection',
    reason: 'The upstream’s say nothing about it.',
    side: 'response',
    parts: ['connection', 'keep-alive'],
    cases: ['200 to the end of the connection', '426', 'fields of the upstream’s connection'],
  },
  {
    what: 'Fields that the upstream’s `Connection` names, and `Proxy-Connection`, are dropped',
    reason: 'They are for the next hop only (RFC 9110 section 7.6.1).',
    side: 'response',
    parts: ['x-hop', 'proxy-connection'],
    cases: ['fields of the upstream’s connection'],
  },
  {
    what: '`Upgrade` is dropped',
    reason: 'The same: to what the upstream would switch is no offer to the client.',
    side: 'response',
    parts: ['upgrade'],
    cases: ['426'],
  },
  {
    what: '`Proxy-Authenticate` is dropped',
    reason: 'It asks the gateway, not the client (RFC 9110 section 11.7.1).',
    side: 'response',
    parts: ['proxy-authenticate'],
    cases: ['407'],
  },
  {
    what: '`Trailer` is dropped',
    reason: 'As the trailers themselves are; both drop those.',
    side: 'response',
    parts: ['trailer'],
    cases: ['200 in chunks with trailers'],
  },
  {
    what: 'An empty chunked response stays chunked',
    reason: 'The header has gone out when the end comes, if it comes in another packet.',
    side: 'response',
    parts: ['content-length', 'transfer-encoding'],
    cases: ['200 in no chunk'],
  },
]
