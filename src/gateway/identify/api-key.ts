import type { SourceOf } from '../../config/snapshot/consumers.js'
import { digestOf, isKey } from '../../credentials/key-format.js'
import type { Refusal } from '../../errors.js'
import type { FoundKey, Keyring } from '../../fleet/keyring.js'
import type { Exchange } from '../exchange/exchange.js'
import { identityHeader } from '../exchange/headers.js'
import { type Identified, identifyAs, MAX_CREDENTIAL, unauthorized } from './identify.js'

type ApiKeys = SourceOf<'api_key'>

/**
 * Identifies the client by an API key.
 *
 * @param keyring undefined if no key of the store is known
 */
export function identifyByApiKey(
  x: Exchange,
  source: ApiKeys,
  keyring: Pick<Keyring, 'find' | 'isWhole' | 'used'> | undefined,
): Identified | Promise<Refusal | undefined> {
  const { header, keys, storeGrace } = source
  const key = identityHeader(x.headers, header)
  if (key === undefined) return 'absent'
  if (key === '' || key.length > MAX_CREDENTIAL) return notValid(header)
  const digest = digestOf(key)
  const owner = keys.get(digest)
  if (owner !== undefined) {
    identifyAs(x, 'api_key', owner, owner.tier)
    return undefined
  }
  if (storeGrace === undefined || keyring === undefined) return notValid(header)

  // A text that cannot be one of our keys is refused without a question to the store.
  if (!keyring.isWhole() && !isKey(key)) return notValid(header)
  const found = keyring.find(digest, storeGrace)
  return found instanceof Promise
    ? found.then((late) => decide(x, header, key, keyring, late))
    : decide(x, header, key, keyring, found)
}

function decide(
  x: Exchange,
  header: string,
  key: string,
  keyring: Pick<Keyring, 'used'>,
  found: FoundKey,
): Refusal | undefined {
  if (typeof found === 'object') {
    identifyAs(x, 'api_key', found, tierIndex(x.snapshot.tiers, found.tier))
    x.keyId = found.id
    keyring.used(found)
    return undefined
  }
  if (found === 'expired') return unauthorized(`The API key in ${header} has expired.`)
  return found === 'unavailable' && isKey(key) ? UNAVAILABLE : notValid(header)
}

const UNAVAILABLE: Refusal = { code: 'identity_unavailable', headers: ['Retry-After', '1'] }

function notValid(header: string): Refusal {
  return unauthorized(`The API key in ${header} is not valid.`)
}

/** Returns the index of a tier. Keys outlive tiers: a tier that the configuration does not have counts as none. */
function tierIndex(tiers: readonly string[], name: string | undefined): number | undefined {
  const index = name === undefined ? -1 : tiers.indexOf(name)
  return index < 0 ? undefined : index
}
