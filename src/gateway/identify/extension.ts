import type { SourceOf } from '../../config/snapshot/consumers.js'
import type { Exchange } from '../exchange/exchange.js'
import { answerOf, idOf, membersOf } from '../extensions/results.js'
import type { HookKind, HookRunner } from '../extensions/runner.js'
import { type StageOutcome, WAITING } from '../request-lifecycle.js'

const IDENTIFY: HookKind = {
  idle: 'found no credential',
  done: 'identified the consumer',
  call: ({ run }, { request }) => run(request),
  take(result, _state, x, { extension }) {
    if (result === undefined) return undefined
    const members = membersOf(result, 'identify')
    if (!('consumer' in members)) return answerOf(result, x, extension, 'identify')
    const consumer = idOf(members.consumer, 'consumer')
    const tenant = members.tenant === undefined ? undefined : idOf(members.tenant, 'tenant')
    const tier = members.tier === undefined ? undefined : x.snapshot.tiers.indexOf(members.tier as string)
    if (tier === -1) throw new TypeError(`there is no tier ${String(members.tier)}`)
    x.scopes = members.scopes === undefined ? undefined : scopesOf(members.scopes)
    x.consumer = consumer
    x.credentialTier = tier
    x.tenant = tenant
    x.identifiedBy = 'extension'
    return undefined
  },
}

/** Longest list of scopes. */
const MAX_SCOPES = 256

function scopesOf(value: unknown): readonly string[] {
  const scopes = Array.isArray(value) ? value.slice(0, MAX_SCOPES + 1) : [undefined]
  if (scopes.length > MAX_SCOPES || !scopes.every((scope) => typeof scope === 'string'))
    throw new TypeError(`scopes must be a list of at most ${MAX_SCOPES} texts`)
  return Object.freeze(scopes)
}

/**
 * Identifies the client by the hook of an extension. Unlike for other kinds, it may take time to find out that its
 * credential is absent.
 */
export function identifyByExtension(
  x: Exchange,
  { hooks }: SourceOf<'extension'>,
  run: HookRunner,
): MaybeAbsent | Promise<MaybeAbsent> {
  const later = { proceed(_: StageOutcome) {}, broken(_: unknown) {} }
  const outcome = run(x, hooks, IDENTIFY, later)
  if (outcome !== WAITING) return orAbsent(x, outcome)
  return new Promise((resolve, reject) => {
    later.proceed = (late) => resolve(orAbsent(x, late))
    later.broken = reject
  })
}

type MaybeAbsent = StageOutcome | 'absent'

function orAbsent(x: Exchange, outcome: StageOutcome): MaybeAbsent {
  return outcome === undefined && x.consumer === undefined ? 'absent' : outcome
}
