import { formsOf, isMapping, type SchemaNode } from '../schema/node.js'
import type { Path } from '../schema/partial-config.js'
import { type Config, ConfigSchema } from '../schema/schema.js'
import { byIdentity, childOf, formOf, isObject, show } from './diff.js'

/** One value of a configuration. */
export interface ConfigValue {
  /** Place as messages name it: `routes[/payments/*].cost`. */
  readonly key: string
  /** Value as it would be written in the file. Secrets are masked. */
  readonly value: string
  /** Place in the tree of the file. Of a key with two names, such as sha256 and key, each is a place. */
  readonly paths: readonly Path[]
}

/** Returns every value of a configuration, defaults included, in the order of the schema. */
export function valuesOf(config: Config): readonly ConfigValue[] {
  const values: ConfigValue[] = []
  collect(ConfigSchema as unknown as SchemaNode, config, '', [], values)
  return values
}

function collect(
  part: SchemaNode,
  value: unknown,
  key: string,
  path: readonly Step[],
  values: ConfigValue[],
): void {
  const form = formOf(part, value)
  if (isObject(value) && isMapping(form) && Object.keys(value).length > 0) {
    for (const [name, item] of Object.entries(value)) {
      if (item === undefined) continue
      const below = `${key}${key === '' ? '' : '.'}${name}`
      collect(childOf(form, name, value), item, below, [...path, writtenAs(part, name)], values)
    }
    return
  }
  if (Array.isArray(value) && form.items !== undefined && isMapping(formsOf(form.items)[0]!)) {
    const { items } = form
    const labels = [...byIdentity(value).values()]
    value.forEach((item, i) => {
      const label = labels.find((one) => one.value === item)?.label ?? String(i)
      collect(items, item, `${key}[${label}]`, [...path, i], values)
    })
    return
  }
  values.push({ key, value: show(part, value), paths: pathsOf(path) })
}

/** Step of a path. A key may be written under several names. */
type Step = number | readonly string[]

/** Returns the names under which a key may be written. */
function writtenAs(part: SchemaNode, name: string): readonly string[] {
  const others = formsOf(part).flatMap(({ properties = {} }) =>
    Object.entries(properties).flatMap(([key, { becomes }]) => (becomes === name ? [key] : [])),
  )
  return [name, ...others]
}

function pathsOf(steps: readonly Step[]): readonly Path[] {
  return steps.reduce<Path[]>(
    (paths, step) =>
      (typeof step === 'number' ? [step] : step).flatMap((one) => paths.map((path) => [...path, one])),
    [[]],
  )
}
