import { isMap, isSeq, type Node } from 'yaml'
import type { Marks } from './define.js'

/** Subset of JSON Schema that `define.ts` writes. */
export interface SchemaNode extends Marks {
  readonly type?: string
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly required?: readonly string[]
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>
  readonly items?: SchemaNode
  readonly anyOf?: readonly SchemaNode[]
  readonly enum?: readonly string[]
  readonly const?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
}

/** Returns true if the part is a mapping. */
export function isMapping(part: SchemaNode): boolean {
  return part.properties !== undefined || part.patternProperties !== undefined
}

/** Returns all forms that a value may have. */
export function formsOf(part: SchemaNode): readonly SchemaNode[] {
  return part.anyOf === undefined ? [part] : part.anyOf.flatMap(formsOf)
}

/** Formats an example for a message: `such as 10/min`. */
export function exampleOf(part: SchemaNode): string | undefined {
  const example = part.examples?.[0]
  return example === undefined ? undefined : `such as ${inFile(example)}`
}

/** Formats a value on one line, as in the file. */
export function inFile(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(inFile).join(', ')}]`
  if (typeof value !== 'object' || value === null) return String(value)
  const keys = Object.entries(value).map(([key, item]) => `${key}: ${inFile(item)}`)
  return keys.length === 0 ? '{}' : `{ ${keys.join(', ')} }`
}

/** Returns the path of a key below another, for a message. */
export function below(path: string, key: string): string {
  if (!/^[\w-]{1,64}$/.test(key)) return `${path}[${quote(key)}]`
  return path === '' ? key : `${path}.${key}`
}

/** Quotes a text for a message: shortened, and without the password of a URL. */
export function quote(text: string): string {
  const shown = text.replace(/\/\/[^/@\s]*@/, '//***@')
  return JSON.stringify(shown.length > 60 ? `${shown.slice(0, 60)}…` : shown)
}

/** Returns where a node begins in the text; undefined if it has no place there. */
export function offsetOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0]
}

/** Names the kind of a node, for a message. */
export function kindOf(node: unknown): string {
  return isMap(node) ? 'a mapping' : isSeq(node) ? 'a list' : 'a single value'
}
