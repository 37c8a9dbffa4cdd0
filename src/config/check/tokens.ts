import {
  asList,
  type Draft,
  named,
  type Path,
  present,
  type Report,
  repeated,
} from '../schema/partial-config.js'
import type { Config } from '../schema/schema.js'
import { keyFits, publicKeyOf } from '../values/public-key.js'
import { algorithmsOf, type TokenAlgorithm } from '../values/token-algorithms.js'
import { warnOfOpenKeys } from './admin.js'

type Jwt = Draft<Extract<Config['consumers'][number], { jwt: unknown }>['jwt']>
type Issuer = Exclude<Jwt, { readonly issuers?: unknown }>

const KEYS = ['jwks_url', 'public_key', 'secret'] as const

/** Returns the issuers of either form, with holes for those that could not be read. */
export function issuersOf(jwt: Jwt): readonly (Issuer | undefined)[] {
  return 'issuers' in jwt ? asList(jwt.issuers) : [jwt as Issuer]
}

/** Checks the token settings beyond the schema: where keys come from, and which algorithms they fit. */
export function checkTokens(jwt: Jwt, path: Path, error: Report, warning: Report): void {
  const issuers = issuersOf(jwt)
  for (const i of repeated(issuers.map((issuer) => issuer?.issuer)))
    error([...path, 'issuers', i, 'issuer'], `"${issuers[i]!.issuer}" is listed twice; join the two`)
  for (const [i, issuer] of present(issuers)) {
    const at = 'issuers' in jwt ? [...path, 'issuers', i] : path
    checkKeys(issuer, at, error, warning)
    if (Object.hasOwn(issuer, 'audience')) continue
    warning(at, 'without an audience, tokens for other APIs are valid here; name yours')
  }
}

function checkKeys(issuer: Issuer, path: Path, error: Report, warning: Report): void {
  const given = KEYS.filter((key) => Object.hasOwn(issuer, key))
  if (given.length === 0) {
    error(path, 'has no keys; add one of jwks_url, public_key and secret')
    return
  }
  if (given.length > 1) {
    error([...path, given[1]!], `given together with ${given[0]}; keep one of the two`)
    return
  }
  warnOfOpenKeys(issuer.jwks_url, [...path, 'jwks_url'], warning)
  const known = issuer.algorithms === undefined || !asList(issuer.algorithms).includes(undefined)
  if (known) checkAlgorithms(issuer, path, error)
}

/** Checks that a key is used for its own purpose only: a public key taken for a secret is no secret (RFC 8725 §2.1). */
function checkAlgorithms(issuer: Issuer, path: Path, error: Report): void {
  const shared = Object.hasOwn(issuer, 'secret')
  const given = issuer.algorithms === undefined ? undefined : (named(issuer.algorithms) as TokenAlgorithm[])
  const say = (i: number, message: string) =>
    error(given === undefined ? path : [...path, 'algorithms', i], message)
  for (const [i, algorithm] of algorithmsOf(given, shared).entries()) {
    const symmetric = algorithm.startsWith('HS')
    if (symmetric && !shared) say(i, `${algorithm} needs a secret; take another, or give secret`)
    else if (!symmetric && shared)
      say(i, `${algorithm} needs public keys; with a secret it is HS256, HS384 or HS512`)
    else if (shared && issuer.secret !== undefined && !longEnough(issuer.secret, algorithm))
      say(
        i,
        `${algorithm} needs a secret of at least ${bytesFor(algorithm)} bytes (RFC 7518 section 3.2); make one`,
      )
  }
  for (const [k, pem] of present(issuer.public_key)) {
    const key = pem.text === undefined ? undefined : publicKeyOf(pem.text)
    if (key === undefined || algorithmsOf(given, shared).some((one) => keyFits(one, key))) continue
    const wrong = `fits none of the algorithms (${algorithmsOf(given, shared).join(', ')})`
    error([...path, 'public_key', k], `${wrong}; give another, or list its own`)
  }
}

const bytesFor = (algorithm: TokenAlgorithm) => Number(algorithm.slice(2)) / 8

function longEnough(secret: string, algorithm: TokenAlgorithm): boolean {
  return Buffer.byteLength(secret) >= bytesFor(algorithm)
}
