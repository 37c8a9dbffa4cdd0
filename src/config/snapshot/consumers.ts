import type { BoundHook } from '../../extension/route-hooks.js'
import { compileAddressSet } from '../../net/addresses.js'
import type { Config } from '../schema/schema.js'
import { headersOf } from '../values/credential-kinds.js'
import type { CompiledExtension } from './extensions.js'
import { compileForward, type ForwardCheck } from './forward.js'
import { type KeyOwner, ownerOf } from './key-owner.js'
import { compileSignatures, type SignatureSettings } from './signatures.js'
import { compileTokenIssuer, type TokenIssuer } from './token-issuers.js'

/** Compiled source of consumers: how the gateway identifies a client. */
export type ConsumerSource = Compiled & {
  /** Names of the headers that it reads, in lower case. The first one holds the credential. */
  readonly headers: readonly string[]
}

type Compiled =
  | {
      readonly kind: 'api_key'
      readonly header: string
      /** Keys by the hex SHA-256 of the key. */
      readonly keys: ReadonlyMap<string, KeyOwner>
      /** How long stored keys still work while the store is away, in ms; undefined if stored keys are not accepted. */
      readonly storeGrace: number | undefined
    }
  | {
      readonly kind: 'header'
      readonly header: string
      /** Name of the header with the consumer's tenant. */
      readonly tenant: string | undefined
      /** Returns true if both headers are trusted from this address. */
      readonly believes: (peer: string) => boolean
    }
  | { readonly kind: 'client_certificate'; readonly id: CertificateId }
  | SignatureSettings
  | {
      readonly kind: 'jwt'
      readonly header: string
      readonly issuers: readonly TokenIssuer[]
    }
  | {
      readonly kind: 'extension'
      /** Name of the extension. */
      readonly extension: string
      /** Its hook; none where only the configuration is looked at. */
      readonly hooks: readonly BoundHook[]
    }
  | {
      readonly kind: 'forward'
      readonly check: ForwardCheck
      /** True if the service is asked about requests without any of its headers, too: the route names it. */
      readonly always: boolean
    }
  | { readonly kind: 'ip' }

export type SourceOf<K extends ConsumerSource['kind']> = Extract<ConsumerSource, { kind: K }>

export type CertificateId = Extract<
  Config['consumers'][number],
  { client_certificate: unknown }
>['client_certificate']['id']

const anyone = () => true

function believer(from: readonly string[] | undefined, standard: (peer: string) => boolean) {
  if (from === undefined) return standard
  return from.includes('anyone') ? anyone : compileAddressSet(from)
}

/**
 * Compiles the sources of consumers.
 *
 * @param tierIndex returns the index of a tier in the configuration
 * @param isTrustedProxy returns true for an address in `trusted_proxies`
 * @param extensions compiled extensions by name
 */
export function compileConsumers(
  { consumers, trusted_proxies: proxies }: Config,
  tierIndex: (name: string) => number,
  isTrustedProxy: (address: string) => boolean,
  extensions: ReadonlyMap<string, CompiledExtension>,
): ConsumerSource[] {
  const compiled = (source: Config['consumers'][number]): Compiled => {
    if ('header' in source) {
      const { name, tenant, from } = source.header
      const believes = believer(from, proxies.length > 0 ? isTrustedProxy : anyone)
      return { kind: 'header', header: name, tenant, believes }
    }
    if ('extension' in source) {
      const { identify } = extensions.get(source.extension)!
      return { kind: 'extension', extension: source.extension, hooks: identify ? [identify] : [] }
    }
    if ('ip' in source) return { kind: 'ip' }
    if ('client_certificate' in source)
      return { kind: 'client_certificate', id: source.client_certificate.id }
    if ('signature' in source) return compileSignatures(source.signature, tierIndex)
    if ('jwt' in source) {
      const issuers = 'issuers' in source.jwt ? source.jwt.issuers : [source.jwt]
      return { kind: 'jwt', header: source.jwt.header, issuers: issuers.map(compileTokenIssuer) }
    }
    if ('forward' in source) return { kind: 'forward', check: compileForward(source.forward), always: false }
    const { header, keys, store } = source.api_key
    return {
      kind: 'api_key',
      header,
      keys: new Map(keys.map((key) => [key.sha256, ownerOf(key, tierIndex)])),
      storeGrace: store.enabled ? store.grace : undefined,
    }
  }
  return consumers.map((source) => ({
    ...compiled(source),
    headers: headersOf(source).map(([name]) => name),
  }))
}

/** Returns true if any source accepts API keys of the store. */
export function takesStoredKeys(consumers: readonly ConsumerSource[]): boolean {
  return consumers.some((source) => source.kind === 'api_key' && source.storeGrace !== undefined)
}
