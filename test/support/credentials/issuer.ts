import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'

/**
 * An issuer of tokens: its keys, its signatures, and a server that publishes its keys. It shares no code with the product's verification.
 */

export interface SigningKey {
  readonly kid: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  /** The key as it stands in a JWK set. */
  readonly jwk: Record<string, unknown>
  readonly pem: string
}

type KeyKind = 'rsa' | 'p256' | 'p384' | 'p521' | 'ed25519'

export function createKey(kind: KeyKind, kid: string, bits = 2048): SigningKey {
  const { privateKey, publicKey } = pairOf(kind, bits)
  return {
    kid,
    privateKey,
    publicKey,
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig' },
    pem: publicKey.export({ format: 'pem', type: 'spki' }) as string,
  }
}

function pairOf(kind: KeyKind, bits: number): { privateKey: KeyObject; publicKey: KeyObject } {
  if (kind === 'rsa') return generateKeyPairSync('rsa', { modulusLength: bits })
  if (kind === 'ed25519') return generateKeyPairSync('ed25519')
  return generateKeyPairSync('ec', { namedCurve: { p256: 'P-256', p384: 'P-384', p521: 'P-521' }[kind] })
}

export const base64url = (text: string | Buffer) => Buffer.from(text).toString('base64url')

/** Signs a token with this header and these claims: objects, or the exact text. */
export function tokenOf(
  header: object | string,
  claims: object | string,
  key: KeyObject | undefined,
  algorithm?: string,
): string {
  const text = (part: object | string) => (typeof part === 'string' ? part : JSON.stringify(part))
  const signed = `${base64url(text(header))}.${base64url(text(claims))}`
  const alg = algorithm ?? String((header as { alg?: unknown }).alg)
  return `${signed}.${key === undefined ? '' : signature(signed, key, alg)}`
}

function signature(text: string, key: KeyObject, algorithm: string): string {
  const data = Buffer.from(text)
  const hash = `sha${algorithm.slice(2)}`
  switch (algorithm.slice(0, 2)) {
    case 'HS':
      return createHmac(hash, key).update(data).digest('base64url')
    case 'RS':
      return sign(hash, data, key).toString('base64url')
    case 'PS':
      return sign(hash, data, { key, padding: 6, saltLength: Number(algorithm.slice(2)) / 8 }).toString(
        'base64url',
      )
    case 'ES':
      return sign(hash, data, { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')
    default:
      return sign(null, data, key).toString('base64url')
  }
}

export interface JwksServer {
  readonly url: string
  /** Returns how many requests have come. */
  asked(): number
  /** Sets what it answers from now on: keys, or any response. */
  answer(how: readonly object[] | ((req: IncomingMessage, res: ServerResponse) => void)): void
}

export async function startJwksServer(t: Test, keys: readonly object[] = []): Promise<JwksServer> {
  let asked = 0
  let how: Parameters<JwksServer['answer']>[0] = keys
  const server = createServer((req, res) => {
    asked++
    if (typeof how === 'function') how(req, res)
    else res.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: how }))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks.json`,
    asked: () => asked,
    answer(next) {
      how = next
    },
  }
}
