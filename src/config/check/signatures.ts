import {
  asList,
  type DraftConfig,
  knownTier,
  type Path,
  present,
  type Report,
  repeated,
  reportTwice,
} from '../schema/partial-config.js'
import { publicAlgorithm } from '../snapshot/signatures.js'

/** Checks the settings of signed requests beyond the schema: usable keys, each with its own name. */
export function checkSignatures({ consumers, tiers }: DraftConfig, error: Report): void {
  for (const [i, source] of present(consumers)) {
    if (!('signature' in source) || source.signature === undefined) continue
    const path: Path = ['consumers', i, 'signature']
    const { keys, components, tag } = source.signature
    reportTwice(components, [...path, 'components'], error)
    if (tag !== undefined && !/^[ !#-[\]-~]*$/.test(tag)) {
      error([...path, 'tag'], 'contains a quote, a backslash or a non-ASCII character; write plain text')
    }
    for (const k of repeated(asList(keys).map((key) => key?.id)))
      error([...path, 'keys', k, 'id'], 'an earlier key has the same id; give each its own')
    for (const [k, key] of present(keys)) {
      const at = [...path, 'keys', k]
      knownTier(tiers, key.tier, [...at, 'tier'], error)
      if (key.id !== undefined && !/^[ -~]+$/.test(key.id))
        error([...at, 'id'], 'is not ASCII, as a keyid must be; write plain text')
      if ('public_key' in key) {
        const file = key.public_key
        if (file?.text !== undefined && publicAlgorithm(file.text) === undefined) {
          const held = 'no Ed25519 or P-256 public key'
          error([...at, 'public_key'], `${file.file} contains ${held}; name a PEM file with one`)
        }
      } else if ('secret' in key && key.encoding === 'base64' && key.secret !== undefined) {
        const bytes = Buffer.from(key.secret, 'base64')
        if (bytes.toString('base64') !== key.secret) {
          error([...at, 'secret'], 'is not base64; write encoding: text, or encode it')
        } else if (bytes.length < 16) error([...at, 'secret'], 'has less than 16 bytes; take a longer one')
      }
    }
  }
}
