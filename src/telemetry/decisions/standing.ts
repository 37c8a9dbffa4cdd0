import type { Assignment } from '../../limiter/limiter.js'
import type { RequestRecord } from '../record/record.js'

/** Names the consumer whose next request is asked about. */
export interface StandingQuestion {
  readonly consumer: string
  /** Name of the tier in the consumer's credential, if no gateway has seen that credential. */
  readonly tier?: string | undefined
  /** Tenant in the credential. */
  readonly tenant?: string | undefined
  /** Replaces the stored assignment. */
  readonly assigned?: Assignment | 'none' | undefined
  /** The question comes again every few seconds: the answers of other gateways may be that old. */
  readonly polled?: boolean
}

/** Consumer, tier and tenant of the next request of a consumer, before its quota is checked. */
export interface Standing {
  /** Id under which it is counted: for an IPv6 address, its /64. */
  readonly consumer: string
  /** True if the consumer is an address. */
  readonly byAddress: boolean
  /** Undefined: the credential that the consumer uses is unknown. */
  readonly identifiedBy: RequestRecord['identifiedBy']
  readonly tenant: string | undefined
  /** Index into the tiers of the snapshot. */
  readonly tier: number
  readonly from: 'assignment' | 'query' | 'credential' | `source:${string}` | 'default'
  /** True if the source gave the tier longer ago than its ttl. */
  readonly stale: boolean
  /** Assignment, whether or not the configuration has its tier. */
  readonly assigned: Assignment | undefined
  /** Unix ms of the request that carried the credential, if tier or tenant come from it. */
  readonly seenAt: number | undefined
  /** Reasons why the result may differ from what you expect, one sentence each. */
  readonly notes: readonly string[]
}
