import { asList, type DraftConfig, knownTier, type Path, type Say, twice } from '../schema/partial-config.js'
import { publicAlgorithm } from '../snapshot/signatures.js'

/** Checks the settings of signed requests beyond the schema: usable keys, each with its own name. */
export function checkSignatures({ consumers, tiers }: DraftConfig, error: Say): void {
  for (const [i, source] of asList(consumers).entries()) {
    if (source === undefined || !('signature' in source) || source.signature === undefined) continue
    const path: Path = ['consumers', i, 'signature']
    const { keys, components, tag } = source.signature
    for (const [k, name] of twice(components)) {
      error([...path, 'components', k], `${name} is listed twice; remove one`)
    }
    if (tag !== undefined && !/^[ !#-[\]-~]*$/.test(tag)) {
      error([...path, 'tag'], 'holds a quote, a backslash or what is not ASCII; write plain text')
    }
    const ids = new Set<string>()
    for (const [k, key] of asList(keys).entries()) {
      if (key === undefined) continue
      const at = [...path, 'keys', k]
      knownTier(tiers, key.tier, [...at, 'tier'], error)
      if (key.id !== undefined) {
        if (ids.has(key.id))
          error([...at, 'id'], `"${key.id}" is the id of another key above; give each its own`)
        ids.add(key.id)
        if (!/^[ -~]+$/.test(key.id)) error([...at, 'id'], 'is not ASCII, as a keyid is; write plain text')
      }
      if ('public_key' in key) {
        const file = key.public_key
        if (file?.text !== undefined && publicAlgorithm(file.text) === undefined) {
          const held = 'no public key of Ed25519 or P-256'
          error([...at, 'public_key'], `${file.file} holds ${held}; name a PEM file with one`)
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
