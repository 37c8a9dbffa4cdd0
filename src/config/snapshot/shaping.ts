import { parseJson } from '../../common/json.js'
import type { Config, DeepReadonly } from '../schema/schema.js'
import type { HeaderSettings, RespondSettings } from '../schema/shaping.js'
import { compileRewrite, type Rewrite } from '../values/rewrite.js'
import type { Template } from '../values/template.js'
import { type Compress, compileCompress } from './compress.js'
import { type Cors, compileCors } from './cors.js'

type RouteConfig = Config['routes'][number]

/** Compiled changes that a route makes to messages, or its own response. A route with neither has no shape. */
export interface Shape {
  readonly rewrite: Rewrite | undefined
  readonly request: FieldRules | undefined
  readonly response: FieldRules | undefined
  readonly cors: Cors | undefined
  readonly compress: Compress | undefined
  readonly respond: FixedAnswer | undefined
}

/** Rules for the headers of a message. */
export interface FieldRules {
  /** Lower-case names of the headers to remove, with `_` written as `-`: removed ones, and those that are set again. */
  readonly drop: ReadonlySet<string>
  readonly put: readonly FieldValue[]
}

export interface FieldValue {
  readonly name: string
  readonly lowerName: string
  readonly value: Template
}

export interface FixedAnswer {
  readonly status: number
  readonly fields: readonly FieldValue[]
  readonly body: string
}

export function compileShape(route: RouteConfig): Shape | undefined {
  const shape: Shape = {
    rewrite: route.rewrite === undefined ? undefined : compileRewrite(route.path, route.rewrite),
    request: compileRules(route.headers?.request),
    response: compileRules(route.headers?.response),
    cors: route.cors === undefined ? undefined : compileCors(route.cors, route.methods),
    compress: compileCompress(route.compress),
    respond: route.respond === undefined ? undefined : compileAnswer(route.respond),
  }
  return Object.values(shape).every((part) => part === undefined) ? undefined : shape
}

function compileRules(changes: DeepReadonly<HeaderSettings>['request']): FieldRules | undefined {
  if (changes === undefined) return undefined
  const { set = {}, add = {}, remove = [] } = changes
  const drop = new Set([...remove, ...Object.keys(set).map((name) => name.toLowerCase())])
  const put = [...valuesOf(set), ...valuesOf(add)]
  return drop.size === 0 && put.length === 0 ? undefined : { drop, put }
}

function valuesOf(fields: Readonly<Record<string, Template>>): FieldValue[] {
  return Object.entries(fields).map(([name, value]) => ({ name, lowerName: name.toLowerCase(), value }))
}

function compileAnswer({ status, body = '', headers = {} }: DeepReadonly<RespondSettings>): FixedAnswer {
  const fields = valuesOf(headers)
  const typed = fields.some(({ lowerName }) => lowerName === 'content-type')
  if (body === '' || typed) return { status, fields, body }
  const type = isJson(body) ? 'application/json' : 'text/plain; charset=utf-8'
  const contentType = { name: 'Content-Type', lowerName: 'content-type', value: { pieces: [type] } }
  return { status, fields: [contentType, ...fields], body }
}

/** Returns true for a JSON object or list. A bare word that happens to be JSON is text. */
function isJson(text: string): boolean {
  return /^\s*[[{]/.test(text) && parseJson(text) !== undefined
}
