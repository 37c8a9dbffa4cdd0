import type { Node } from 'yaml'
import type { Marks } from './define.js'

/** The part of JSON Schema that `define.ts` writes. */
export interface Part extends Marks {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Part>>
  readonly required?: readonly string[]
  readonly patternProperties?: Readonly<Record<string, Part>>
  readonly items?: Part
  readonly anyOf?: readonly Part[]
  readonly enum?: readonly string[]
  readonly const?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
}

/** Whether the file has keys here. */
export function isMapping(part: Part): boolean {
  return part.properties !== undefined || part.patternProperties !== undefined
}

/** All forms that a value may have. */
export function formsOf(part: Part): readonly Part[] {
  return part.anyOf === undefined ? [part] : part.anyOf.flatMap(formsOf)
}

/** For a message: `such as 10/min`. */
export function exampleOf(part: Part): string | undefined {
  const example = part.examples?.[0]
  return example === undefined ? undefined : `such as ${inFile(example)}`
}

/** A value on one line, as it would stand in the file. */
export function inFile(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(inFile).join(', ')}]`
  if (typeof value !== 'object' || value === null) return String(value)
  const keys = Object.entries(value).map(([key, item]) => `${key}: ${inFile(item)}`)
  return keys.length === 0 ? '{}' : `{ ${keys.join(', ')} }`
}

/** For a message: the path of a key below another. */
export function below(path: string, key: string): string {
  if (!/^[\w-]{1,64}$/.test(key)) return `${path}[${quote(key)}]`
  return path === '' ? key : `${path}.${key}`
}

/** For a message: in quotes, not endless, and without the password of a URL. */
export function quote(text: string): string {
  const shown = text.replace(/\/\/[^/@\s]*@/, '//***@')
  return JSON.stringify(shown.length > 60 ? `${shown.slice(0, 60)}…` : shown)
}

/** Where a node begins in the text; undefined for what has no place in it. */
export function offsetOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0]
}
