import { ADDRESSES } from './scalar-addresses.js'
import { CREDENTIALS } from './scalar-credentials.js'
import { HTTP } from './scalar-http.js'
import { QUANTITIES } from './scalar-quantities.js'
import { kindOf, patternKind } from './scalar-type.js'

/** Pattern of names of services, tiers and limits. They go into Redis keys, labels and headers unchanged. */
export const NAME_PATTERN = '^[a-z0-9][a-z0-9_-]{0,62}$'

const NAME = patternKind('name', NAME_PATTERN, [
  'is not a name',
  'use a-z, 0-9, "_" and "-", beginning with a letter or digit, 63 characters at most',
])

/** Pattern of the name of a gateway: those of hosts and pods, and `host:pid`. */
export const INSTANCE_PATTERN = '^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$'

/** Kinds of scalars, by their name in the schema. */
export const KINDS = {
  ...QUANTITIES,
  ...ADDRESSES,
  ...HTTP,
  ...CREDENTIALS,

  switch: kindOf<{ enabled: boolean }>(
    'true or false',
    '^(true|false)$',
    (value, fail) =>
      value === 'true' || value === 'false'
        ? { enabled: value === 'true' }
        : fail('is neither true nor false', 'write true, false, or a mapping of settings'),
    (value) => String(value.enabled),
    ['boolean'],
  ),

  /** How long browsers use https alone, in place of a mapping. */
  hsts: kindOf<{ max_age: number }>(
    QUANTITIES.duration.label,
    QUANTITIES.duration.pattern,
    (...given) => {
      const max_age = QUANTITIES.duration.read(...given)
      return max_age === undefined ? undefined : { max_age }
    },
    ({ max_age }) => QUANTITIES.duration.show(max_age),
  ),

  /** Every part of the plain path, in place of a mapping. */
  plain_path: kindOf<Record<'requests' | 'tls' | 'responses', boolean>>(
    'true or false',
    '^(true|false)$',
    (value, fail) => {
      const on = value === 'true'
      return on || value === 'false'
        ? { requests: on, tls: on, responses: on }
        : fail('is neither true nor false', 'write true, false, or a mapping of settings')
    },
    ({ requests }) => String(requests),
    ['boolean'],
  ),

  name: NAME,

  instance: patternKind('name', INSTANCE_PATTERN, [
    'is not a name of a gateway',
    'use letters, digits, ".", "_", ":" and "-", beginning with a letter or digit, 100 characters at most',
  ]),

  /** Name of a tier, in place of a mapping. */
  tier: kindOf<{ name: string }>(
    'name',
    NAME_PATTERN,
    (...given) => {
      const name = NAME.read(...given)
      return name === undefined ? undefined : { name }
    },
    ({ name }) => name,
  ),
} as const

export type KindName = keyof typeof KINDS
/** Type that a kind is parsed into. */
export type KindValue<K extends KindName> = NonNullable<ReturnType<(typeof KINDS)[K]['read']>>
