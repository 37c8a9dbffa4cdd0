import type { Assignment } from '../../limiter/limiter.js'
import type { RequestRecord } from '../record/record.js'

/** Whose next request is asked about. */
export interface StandingQuestion {
  readonly consumer: string
  /** Name of a tier that its credential says, where nobody has seen that. */
  readonly tier?: string | undefined
  /** That its credential says. */
  readonly tenant?: string | undefined
  /** In place of what is assigned. */
  readonly assigned?: Assignment | 'none' | undefined
}

/** What the next request of a consumer has before its quota is looked at. */
export interface Standing {
  /** As it is counted: of an IPv6 address its /64. */
  readonly consumer: string
  /** Whether the consumer is an address. */
  readonly byAddress: boolean
  /** Undefined: by which credential it comes is not known. */
  readonly identifiedBy: RequestRecord['identifiedBy']
  readonly tenant: string | undefined
  /** Index into the tiers of the snapshot. */
  readonly tier: number
  readonly from: 'assignment' | 'query' | 'credential' | `source:${string}` | 'default'
  /** It is what the source said last, longer ago than its ttl. */
  readonly stale: boolean
  /** What is assigned, whether or not the configuration has that tier. */
  readonly assigned: Assignment | undefined
  /** Unix ms of the request that the credential was seen with, where that is what tells tier or tenant. */
  readonly seenAt: number | undefined
  /** Why it may not be what is expected, a sentence each. */
  readonly notes: readonly string[]
}
