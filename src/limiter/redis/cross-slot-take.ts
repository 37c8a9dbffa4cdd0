import { withTimeout } from '../../common/wait.js'
import type { LimitGroup } from '../../config/snapshot/policy.js'
import type { Service } from '../../config/snapshot/snapshot.js'
import { slotOfKey } from '../key.js'
import { type Counted, joinCounted } from '../limit-readings.js'
import type { Decision, DegradedReason } from '../limiter.js'
import type { Settle } from './scripts.js'
import type { Verdict } from './take-batch.js'

/** Parts whose keys are in one slot, so that one call decides them. */
export interface Group {
  readonly slot: number
  readonly parts: readonly LimitGroup[]
  readonly keys: readonly string[]
}

/** Groups the parts by slot, in the order of their first parts. */
export function groupBySlot(parts: readonly LimitGroup[], keys: readonly string[]): readonly Group[] {
  const bySlot = new Map<number, { slot: number; parts: LimitGroup[]; keys: string[] }>()
  parts.forEach((part, i) => {
    const slot = slotOfKey(keys[i]!)
    const group = bySlot.get(slot) ?? { slot, parts: [], keys: [] }
    group.parts.push(part)
    group.keys.push(keys[i]!)
    bySlot.set(slot, group)
  })
  return [...bySlot.values()]
}

/**
 * Converts a verdict, which numbers the limits of the parts asked, to a decision, which numbers those of the policy.
 */
export function renumbered(parts: readonly LimitGroup[], verdict: Verdict): Decision {
  const indices = parts.flatMap((part) => part.indices)
  const violated = indices.reduce((mask, index, i) => mask | (((verdict.violated >> i) & 1) << index), 0)
  return { ...verdict, binding: indices[verdict.binding]!, violated }
}

export interface InTurn {
  readonly groups: readonly Group[]
  readonly service: Service
  readonly cost: number
  /** Timeout for all groups together, in ms. */
  readonly timeoutMs: number
  ask(group: Group): DegradedReason | Promise<Verdict | DegradedReason>
  settle(slot: number, settle: Settle): unknown
  degrade(reason: DegradedReason): Decision
}

/**
 * Asks one group after the other, all within the time of one decision. If a later group denies, the charges of earlier
 * ones are given back. If a later group can't be asked, the request is decided without the store. With `open` it has
 * passed, and keeps its charges except for slots, which would never be given back. Otherwise all charges are given
 * back.
 */
export async function takeInTurn(turn: InTurn): Promise<Decision> {
  const { groups, service, cost, timeoutMs, ask, settle, degrade } = turn
  const due = performance.now() + timeoutMs
  const charged: { readonly group: Group; readonly at: number }[] = []
  const shown: Counted[] = []
  let tightest: Decision | undefined

  function giveBack(group: Group, at: number, quota: number): void {
    settle(group.slot, { ...group, quota, at, slot: 'release', slotAt: at })
  }

  for (const group of groups) {
    const asked = Promise.resolve(ask(group))
    const verdict = await withTimeout(asked, due - performance.now(), () => undefined)
    if (verdict === undefined || typeof verdict === 'string') {
      if (verdict === undefined) {
        asked.then((late) => {
          if (typeof late !== 'string' && late.allowed) giveBack(group, late.at, -cost)
        })
      }
      const quota = service.onFailure === 'open' ? 0 : -cost
      for (const { group, at } of charged) giveBack(group, at, quota)
      return degrade(verdict ?? 'timeout')
    }
    if (!verdict.allowed) {
      for (const { group, at } of charged) giveBack(group, at, -cost)
      return renumbered(group.parts, verdict)
    }
    charged.push({ group, at: verdict.at })
    if (verdict.counted !== undefined) shown.push(verdict.counted)
    if (tightest === undefined || verdict.remaining < tightest.remaining) {
      tightest = renumbered(group.parts, verdict)
    }
  }
  const counted = shown.length === 0 ? undefined : joinCounted(shown)
  return { ...tightest!, times: charged.map(({ at }) => at), counted }
}
