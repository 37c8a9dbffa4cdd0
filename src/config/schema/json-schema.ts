import { KINDS } from '../values/scalar-types.js'
import type { SchemaNode } from './node.js'
import { ConfigSchema } from './schema.js'

const ENVIRONMENT = { $ref: '#/$defs/environment' }
/** Keys that only our own reader understands. */
const MARKS = new Set('kind secret raw restart wrap shorthand becomes file keyFix least most'.split(' '))

/**
 * Returns the schema for editors: `config/schema.json`.
 *
 * @param options schemas of the options of extensions, by name
 */
export function jsonSchema(options: ReadonlyMap<string, SchemaNode> = new Map()): Record<string, unknown> {
  const schema = plain(ConfigSchema as unknown as SchemaNode)
  if (options.size > 0) {
    const { extensions } = schema.properties as { extensions: { items: object } }
    const allOf = [...options].map(([name, node]) => ({
      if: { required: ['name'], properties: { name: { const: name } } },
      // biome-ignore lint/suspicious/noThenProperty: a word of JSON Schema
      then: { properties: { options: { ...plain(node), additionalProperties: false } } },
    }))
    Object.assign(extensions.items, { allOf })
  }
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Tidegate configuration',
    ...schema,
    $defs: {
      environment: {
        description: 'Taken from the environment, by name, with or without a default',
        type: 'string',
        pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\\}',
      },
    },
  }
}

function plain(part: SchemaNode): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(part)) {
    if (!MARKS.has(key)) result[key] = convert(key, value)
  }
  if (part.kind !== undefined) Object.assign(result, scalarOf(part))
  if (result.type === 'number') delete result.pattern
  const closed =
    part.kind !== undefined ||
    part.enum !== undefined ||
    ['integer', 'boolean'].includes(part.type ?? '') ||
    (part.minLength ?? 0) > 1
  if (!closed) return result
  const { description, default: fallback, examples, ...shape } = result
  return {
    description,
    ...(fallback === undefined ? {} : { default: fallback }),
    ...(examples === undefined ? {} : { examples }),
    anyOf: [shape, ENVIRONMENT],
  }
}

function convert(key: string, value: unknown): unknown {
  if (key === 'properties' || key === 'patternProperties') {
    return Object.fromEntries(
      Object.entries(value as Record<string, SchemaNode>).map(([name, part]) => [name, plain(part)]),
    )
  }
  if (key === 'items') return plain(value as SchemaNode)
  if (key === 'anyOf') return (value as SchemaNode[]).map(plain)
  return value
}

function scalarOf({ kind }: SchemaNode): Record<string, unknown> {
  const { types, pattern } = KINDS[kind!]
  const type = types.length === 1 ? types[0] : types
  if (type === 'boolean') return { type }
  if (kind === 'share') return { type: 'number', minimum: 0, maximum: 1 }
  // The only duration without a unit is 0.
  const bounds = kind === 'duration' ? { minimum: 0, maximum: 0 } : kind === 'size' ? { minimum: 0 } : {}
  return { type, pattern, ...bounds }
}
