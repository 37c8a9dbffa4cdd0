import type { Dashboard } from './dashboard.js'
import { DENIED, increase, min, ofNode, ofTier, rate, share, sum } from './query.js'

const DECISIONS = 'tidegate_limit_decisions_total'
const CANDIDATE = 'tidegate_candidate_decisions_total'
const SOURCE_UP = 'tidegate_tier_source_up'
const LOOKUPS = 'tidegate_tier_lookups_total'
const QUESTIONS = 'tidegate_tier_source_questions_total'
const WHOSE = 'tidegate_service, tidegate_tier'
const LIMIT = `${WHOSE}, limit`

export const LIMITS: Dashboard = {
  uid: 'tidegate-limits',
  title: 'Tidegate: limits',
  text: 'What the limits do: denials, requests near a limit, where decisions were made, and what candidate limits would do. `tidegate top` names the consumers.',
  choose: ['service', 'tier'],
  rows: [
    {
      title: 'Now',
      panels: [
        {
          kind: 'stat',
          title: 'Decisions',
          text: 'Quota decisions per second. An unlimited tier has none.',
          unit: 'reqps',
          width: 6,
          nothing: 'no traffic',
          queries: { decisions: sum(rate(ofTier(DECISIONS))) },
        },
        {
          kind: 'stat',
          title: 'Denied in this time',
          text: 'Requests that got 429 in the time shown. `tidegate why REQUEST_ID`, or `tidegate why --consumer CONSUMER`, explains one of them.',
          unit: 'short',
          width: 6,
          nothing: 'none',
          queries: { denied: sum(increase(ofTier(DECISIONS, DENIED))) },
        },
        {
          kind: 'stat',
          title: 'Denied',
          text: 'Share of decisions that were denials. A few percent are usual. Most of the traffic: a client repeats requests in a loop, or a limit is too low. The table below shows which.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          width: 6,
          thresholds: { orange: 0.1, red: 0.5 },
          nothing: 'no traffic',
          queries: { denied: share(rate(ofTier(DECISIONS, DENIED)), rate(ofTier(DECISIONS))) },
        },
        {
          kind: 'stat',
          title: 'Near their limit',
          text: 'Share of allowed requests that left less than 20 % of their limit. If it is large, those consumers will be denied soon: talk to them, or raise the limit.',
          unit: 'percentunit',
          decimals: 2,
          min: 0,
          width: 6,
          thresholds: { orange: 0.25, red: 0.5 },
          nothing: 'no traffic',
          queries: {
            near: share(
              rate(ofTier(DECISIONS, 'decision="near"')),
              rate(ofTier(DECISIONS, 'decision!="denied"')),
            ),
          },
        },
      ],
    },
    {
      title: 'By limit and tier',
      panels: [
        {
          kind: 'stacked',
          title: 'Decisions',
          text: 'Allowed, near (allowed, with less than 20 % left) and denied. Denied includes the 503 of on_failure: closed.',
          unit: 'reqps',
          colors: { '^allowed$': 'green', '^near$': 'yellow', '^denied$': 'red' },
          queries: { '{{decision}}': sum(rate(ofTier(DECISIONS)), 'decision') },
        },
        {
          kind: 'lines',
          title: 'Denied, share by service and tier',
          text: 'If one tier has many, look at its limit, or at one large consumer. If all tiers of a service have many at once, the configuration changed, or a client retries without waiting for Retry-After.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          queries: {
            '{{tidegate_service}} {{tidegate_tier}}': share(
              rate(ofTier(DECISIONS, DENIED)),
              rate(ofTier(DECISIONS)),
              WHOSE,
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Near, share of the allowed by limit',
          text: 'Above a half, the usual traffic of that tier is close to its limit: the next burst is denied.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          thresholds: { red: 0.5 },
          queries: {
            '{{tidegate_service}} {{tidegate_tier}} {{limit}}': share(
              rate(ofTier(DECISIONS, 'decision="near"')),
              rate(ofTier(DECISIONS, 'decision!="denied"')),
              LIMIT,
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Denied, by limit',
          text: 'Which limit denies. A denial counts for the limit that was exceeded; `minute` and `second` are names from the configuration.',
          unit: 'reqps',
          width: 12,
          queries: {
            '{{tidegate_service}} {{tidegate_tier}} {{limit}}': sum(rate(ofTier(DECISIONS, DENIED)), LIMIT),
          },
        },
        {
          kind: 'stacked',
          title: 'Who decided',
          text: 'store: counted there. cache: an earlier denial still holds. local, open, closed: decided without the store; if there are any, go to the degraded dashboard.',
          unit: 'reqps',
          width: 12,
          to: 'tidegate-degraded',
          colors: {
            '^store$': 'green',
            '^cache$': 'blue',
            '^local$': 'yellow',
            '^open$': 'red',
            '^closed$': 'purple',
          },
          queries: { '{{decided_by}}': sum(rate(ofTier(DECISIONS)), 'decided_by') },
        },
        {
          kind: 'table',
          title: 'All limits in this time',
          text: 'Requests in the time shown, by binding limit. Sort by a column.',
          unit: 'short',
          decimals: 0,
          width: 24,
          queries: {
            allowed: sum(increase(ofTier(DECISIONS, 'decision!="denied"')), LIMIT),
            'of these near': sum(increase(ofTier(DECISIONS, 'decision="near"')), LIMIT),
            denied: sum(increase(ofTier(DECISIONS, DENIED)), LIMIT),
          },
        },
      ],
    },
    {
      title: 'Candidate limits against the live ones',
      panels: [
        {
          kind: 'lines',
          title: 'Denied: candidate and live',
          text: 'Share of the same requests that candidate limits (`candidate: true`) would deny, beside the share that the live limits deny. Make the candidate live when its line was good for a week.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          width: 12,
          nothing: 'no candidate limits',
          colors: { candidate$: 'purple', live$: 'orange' },
          queries: {
            '{{tidegate_service}} {{tidegate_tier}} candidate': share(
              rate(ofTier(CANDIDATE, 'decision="denied"')),
              rate(ofTier(CANDIDATE)),
              WHOSE,
            ),
            '{{tidegate_service}} {{tidegate_tier}} live': `${share(
              rate(ofTier(DECISIONS, DENIED)),
              rate(ofTier(DECISIONS)),
              WHOSE,
            )} and ${sum(ofTier(CANDIDATE), WHOSE)}`,
          },
        },
        {
          kind: 'stacked',
          title: 'Decisions that candidates would make',
          text: 'By binding candidate. Not counted while the store is away.',
          unit: 'reqps',
          width: 12,
          nothing: 'no candidate limits',
          colors: { allowed$: 'green', near$: 'yellow', denied$: 'red' },
          queries: {
            '{{tidegate_service}} {{tidegate_tier}} {{limit}} {{decision}}': sum(
              rate(ofTier(CANDIDATE)),
              `${LIMIT}, decision`,
            ),
          },
        },
      ],
    },
    {
      title: 'Where tiers come from',
      panels: [
        {
          kind: 'timeline',
          title: 'Sources of tiers, by gateway',
          text: 'down: the last known tiers hold, and an unknown consumer gets its tier from the next source or the default. If it is down for all gateways, look at the source; for one, at its network.',
          nothing: 'no tier_sources',
          names: { 0: ['down', 'red'], 1: ['up', 'green'] },
          queries: { '{{source}} {{instance}}': min(ofNode(SOURCE_UP), 'source, instance') },
        },
        {
          kind: 'stacked',
          title: 'Look-ups, by state of the cache',
          text: 'hit, negative: from memory. stale: from memory, older than its ttl. miss: the request waited for the source. skipped: the source is down, and the request did not wait. If there are many, paying customers get the default tier.',
          unit: 'reqps',
          nothing: 'no tier_sources',
          colors: { hit$: 'green', negative$: 'blue', stale$: 'yellow', miss$: 'orange', skipped$: 'red' },
          queries: { '{{source}} {{result}}': sum(rate(ofNode(LOOKUPS)), 'source, result') },
        },
        {
          kind: 'stacked',
          title: 'Queries to the sources, by result',
          text: 'Load of the database or endpoint. Many more than new consumers: ttl is short, or max_consumers is too small. timeout, error: the log has the message.',
          unit: 'reqps',
          nothing: 'no tier_sources',
          colors: { found$: 'green', none$: 'blue', timeout$: 'orange', error$: 'red' },
          queries: { '{{source}} {{result}}': sum(rate(ofNode(QUESTIONS)), 'source, result') },
        },
      ],
    },
  ],
}
