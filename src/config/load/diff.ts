import { isDeepStrictEqual } from 'node:util'
import { formsOf, isMapping, type SchemaNode } from '../schema/node.js'
import { type Config, ConfigSchema } from '../schema/schema.js'
import type { LimitSettings } from '../schema/services.js'
import { limitOf, limitText } from '../snapshot/limit.js'
import { KINDS } from '../values/scalar-types.js'
import { optionsOf } from './extension-options.js'

export interface Change {
  /** Text of the form `services.payments.limits.free: 10/min -> 20/min`. Secrets are masked. */
  readonly text: string
  /** Key, if the change only takes effect at the next start; otherwise undefined. */
  readonly restart: string | undefined
}

/** Returns the differences between two configurations, key by key, as they would be written in the file. */
export function changesBetween(before: Config, after: Config): readonly Change[] {
  const changes: Change[] = []
  compare(ConfigSchema as unknown as SchemaNode, before, after, '', undefined, changes)
  return changes
}

/** `restart` is the key above this one that is only read at the start, if there is one. */
function compare(
  part: SchemaNode,
  before: unknown,
  after: unknown,
  path: string,
  restart: string | undefined,
  changes: Change[],
): void {
  if (isDeepStrictEqual(before, after)) return
  const key = part.restart === false ? undefined : (restart ?? (part.restart ? path : undefined))
  const inside = (name: string) => (path === '' ? name : `${path}.${name}`)
  const mapping = formOf(part, before)
  if (isObject(before) && isObject(after) && isMapping(mapping) && formOf(part, after) === mapping) {
    for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
      compare(childOf(mapping, name, after), before[name], after[name], inside(name), key, changes)
    }
    return
  }
  if (
    part.items !== undefined &&
    isMapping(formsOf(part.items)[0]!) &&
    Array.isArray(before) &&
    Array.isArray(after)
  ) {
    const [was, is] = [byIdentity(before), byIdentity(after)]
    for (const [name, place] of new Map([...was, ...is])) {
      const label = `${path}[${place.label}]`
      compare(formOf(part.items, place.value), was.get(name)?.value, is.get(name)?.value, label, key, changes)
    }
    const order = [...was.keys()]
    const moved =
      was.size === is.size && order.every((name) => is.has(name)) && order.join() !== [...is.keys()].join()
    if (moved) changes.push({ text: `${path}: order changed`, restart: key })
    return
  }
  const text =
    before === undefined
      ? `${path}: added${describe(part, after)}`
      : after === undefined
        ? `${path}: removed`
        : `${path}: ${show(part, before)} -> ${show(part, after)}`
  changes.push({ text, restart: key })
}

function describe(part: SchemaNode, value: unknown): string {
  return isObject(value) && part.anyOf === undefined ? '' : ` (${show(part, value)})`
}

/** Formats a value as it would be written in the file. Secrets are masked. */
export function show(part: SchemaNode, value: unknown): string {
  if (value === undefined) return '(none)'
  if (part.secret) return '***'
  const form = formOf(part, value)
  if (form.secret) return '***'
  if (Array.isArray(value)) {
    const shown = value.map((item) => show(form.items ?? part, item))
    return part.wrap && shown.length === 1 ? shown[0]! : `[${shown.join(', ')}]`
  }
  if (form.kind !== undefined) return KINDS[form.kind].show(value as never)
  if (!isObject(value)) return String(value)
  if (isLimit(value)) {
    const limit = limitText(limitOf(value))
    const named = value.name === undefined ? limit : `${limit} "${value.name}"`
    return value.candidate ? `${named} (candidate)` : named
  }
  if (value.enabled === false) return 'false'
  if (onlyName(value)) return value.name
  const keys = Object.entries(value).map(
    ([name, item]) => `${name}: ${show(childOf(form, name, value), item)}`,
  )
  return keys.length === 0 ? '{}' : `{ ${keys.join(', ')} }`
}

/**
 * Indexes a list by identity: routes by what they match, keys by their hash. A new entry then shifts none of the
 * others.
 */
export function byIdentity(list: readonly unknown[]): Map<string, { label: string; value: unknown }> {
  const places = new Map<string, { label: string; value: unknown }>()
  for (const [i, value] of list.entries()) {
    const item = isObject(value) ? value : {}
    let [id, label] = [String(i), String(i)]
    if (typeof item.path === 'string') {
      const methods = Array.isArray(item.methods) ? `${item.methods.join(',')} ` : ''
      label = `${methods}${Array.isArray(item.hosts) ? item.hosts.join(',') : String(item.host ?? '')}${item.path}`
      id = label
    } else if (typeof item.module === 'string') {
      label = String(item.name)
      id = label
    } else if (typeof item.sha256 === 'string') {
      label = String(item.consumer)
      id = item.sha256
    }
    places.set(id, { label, value })
  }
  return places
}

/** Returns the schema of a key of a mapping. */
export function childOf(mapping: SchemaNode, name: string, owner: Record<string, unknown>): SchemaNode {
  const child = mapping.properties?.[name]
  if (child?.raw) return optionsOf(String(owner.module))
  if (mapping.properties !== undefined) return child ?? {}
  return Object.values(mapping.patternProperties ?? {})[0] ?? {}
}

/** Returns the form of the schema by which a value was read. */
export function formOf(part: SchemaNode, value: unknown): SchemaNode {
  const forms = formsOf(part)
  if (Array.isArray(value)) return forms.find((form) => form.items !== undefined) ?? part
  if (isObject(value)) {
    const mappings = forms.filter(isMapping)
    return (
      mappings.find((form) => form.required?.some((key) => value[key] !== undefined)) ??
      mappings[0] ??
      forms[0]!
    )
  }
  return (
    forms.find((form) => form.const === value) ??
    forms.find((form) => !isMapping(form) && !form.items) ??
    part
  )
}

/** Returns true for a limit. No other object of the schema has both keys. */
function isLimit(value: object): value is LimitSettings {
  return 'amount' in value && 'algorithm' in value
}

/** Returns true for an object with nothing but a name, such as a tier. It is written as that name. */
function onlyName(value: Record<string, unknown>): value is { name: string } {
  return typeof value.name === 'string' && Object.keys(value).length === 1
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
