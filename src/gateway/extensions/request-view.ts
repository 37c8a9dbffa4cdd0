import { getOrAdd } from '../../common/maps.js'
import { forTenant, type Policy } from '../../config/snapshot/policy.js'
import type { ExtensionRequest } from '../../extension/define.js'
import type { Exchange } from '../exchange/exchange.js'
import { joinedField } from '../exchange/header-list.js'
import type { HookState } from '../exchange/hook-state.js'

/** Returns the state of the hooks of a request, which begins with its first hook. */
export function hookStateOf(x: Exchange): HookState {
  x.hooks ??= {
    request: new RequestView(x),
    notes: [],
    cost: 0,
    upstream: undefined,
    read: undefined,
    waiting: undefined,
    aborter: undefined,
  }
  return x.hooks
}

/** Request as hooks see it. Nothing of the gateway can be reached from it, or changed. */
class RequestView implements ExtensionRequest {
  readonly #x: Exchange

  constructor(x: Exchange) {
    this.#x = x
    Object.preventExtensions(this)
  }

  get id() {
    return this.#x.requestId
  }
  get method() {
    return this.#x.method
  }
  get host() {
    return this.#x.host
  }
  get path() {
    return this.#x.path
  }
  get query() {
    return this.#x.query
  }
  get address() {
    return this.#x.clientIp
  }
  get secure() {
    const { headers, secured } = this.#x
    return headers.forwardedProto === undefined
      ? secured !== undefined
      : headers.forwardedProto.toLowerCase() === 'https'
  }
  header(name: string) {
    const { headers, hooks } = this.#x
    const lower = String(name).toLowerCase()
    const state = hooks!
    state.read ??= new Set()
    state.read.add(lower)
    return joinedField(headers.sent, lower)
  }
  get route() {
    return this.#x.route!.label
  }
  get params() {
    return paramsOf(this.#x.route!.path, this.#x.path)
  }
  get service() {
    const { service, split } = this.#x.route!
    return split !== undefined || service.upstreams.length === 0 ? undefined : service.name
  }
  get consumer() {
    return this.#x.consumer
  }
  get tier() {
    return this.#x.snapshot.tiers[this.#x.tier]
  }
  get tenant() {
    return this.#x.tenant
  }
  get scopes() {
    const { scopes = NONE } = this.#x
    return Object.isFrozen(scopes) ? scopes : Object.freeze([...scopes])
  }
  get limits() {
    const { route, tier, tenant, policy } = this.#x
    const ofTier = tier < 0 ? undefined : route!.quotaOf.policies[tier]
    const own = policy ?? (ofTier && forTenant(ofTier, tenant))
    return own === undefined ? NONE : getOrAdd(known, own, limitsOf)
  }
  get signal() {
    return signalOf(this.#x)
  }
}
Object.freeze(RequestView.prototype)

const NONE: readonly never[] = Object.freeze([])

const known = new WeakMap<Policy, ExtensionRequest['limits']>()

function limitsOf({ limits }: Policy): ExtensionRequest['limits'] {
  return Object.freeze(
    limits.map(({ name, amount, windowMs }) => Object.freeze({ name, amount, window: windowMs })),
  )
}

/** Returns the segments of a path for which the route's path has a `:name` or `*`. */
function paramsOf(pattern: string, path: string): Readonly<Record<string, string>> {
  const params: Record<string, string> = Object.create(null)
  const segments = path.split('/')
  for (const [i, name] of pattern.split('/').entries()) {
    if (name === '*') params['*'] = decoded(segments.slice(i).join('/'))
    else if (name.startsWith(':')) params[name.slice(1)] = decoded(segments[i] ?? '')
  }
  return Object.freeze(params)
}

/** Decodes a part of a canonical path, unless its bytes are not UTF-8. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function signalOf(x: Exchange): AbortSignal {
  const state = x.hooks!
  state.aborter ??= new AbortController()
  if (x.over) state.aborter.abort()
  return state.aborter.signal
}
