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
  text: 'What the limits do: whom they deny, who is near, who decided, and what candidate limits would do. Which consumers those are, `tidegate top` says.',
  choose: ['service', 'tier'],
  rows: [
    {
      title: 'Now',
      panels: [
        {
          kind: 'stat',
          title: 'Decisions',
          text: 'Quota decisions a second. A tier that is unlimited has none.',
          unit: 'reqps',
          width: 6,
          nothing: 'no traffic',
          queries: { decisions: sum(rate(ofTier(DECISIONS))) },
        },
        {
          kind: 'stat',
          title: 'Denied in this time',
          text: 'Requests that got 429 in the time that is shown. What one caller was told, and why: `tidegate why REQUEST_ID`, or `tidegate why --consumer CONSUMER`.',
          unit: 'short',
          width: 6,
          nothing: 'none',
          queries: { denied: sum(increase(ofTier(DECISIONS, DENIED))) },
        },
        {
          kind: 'stat',
          title: 'Denied',
          text: 'Share of decisions that were denials. A few percent is what limits are for. Most of the traffic: a loop at a caller, or a limit that is too low; the table below says which.',
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
          text: 'Share of what is allowed that passes with less than 20 % of its limit left. Much of it: those callers will be denied soon; talk to them, or raise the limit.',
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
          text: 'Allowed, near (allowed, with less than 20 % left) and denied, which has the 503 of on_failure: closed in it, too.',
          unit: 'reqps',
          width: 8,
          colors: { '^allowed$': 'green', '^near$': 'yellow', '^denied$': 'red' },
          queries: { '{{decision}}': sum(rate(ofTier(DECISIONS)), 'decision') },
        },
        {
          kind: 'lines',
          title: 'Denied, share by service and tier',
          text: 'One tier alone: its limit, or one large consumer on it. All tiers of a service at once: a change of the configuration, or a caller that retries without waiting for Retry-After.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          width: 8,
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
          text: 'Above a half, the limit is where the traffic of that tier lives: the next burst is denied.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          width: 8,
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
          text: 'store: counted. cache: a denial that still holds, so nobody was asked. local, open, closed: without the store; if those are more than nothing, go to the degraded dashboard.',
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
          text: 'Requests of the time that is shown, by the limit that was binding. Sort by a column.',
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
          text: 'Share that candidate limits (`candidate: true`) would deny of the same requests, beside what the live ones do. Make the candidate the live one when you like its line for a week.',
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
          title: 'What candidates would decide',
          text: 'By the candidate that was binding. Nothing is counted while the store is away.',
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
          text: 'down: the last known tiers hold, and who is not known has the next source or the default. All gateways at once: the source. One alone: its network.',
          unit: 'none',
          width: 8,
          nothing: 'no tier_sources',
          names: { 0: ['down', 'red'], 1: ['up', 'green'] },
          queries: { '{{source}} {{instance}}': min(ofNode(SOURCE_UP), 'source, instance') },
        },
        {
          kind: 'stacked',
          title: 'Look-ups, by what was known',
          text: 'hit, negative: from memory. stale: from memory, older than its ttl. miss: the request waited for the source. skipped: it went on without, because the source is down; if that is much, paying customers have the default tier.',
          unit: 'reqps',
          width: 8,
          nothing: 'no tier_sources',
          colors: { hit$: 'green', negative$: 'blue', stale$: 'yellow', miss$: 'orange', skipped$: 'red' },
          queries: { '{{source}} {{result}}': sum(rate(ofNode(LOOKUPS)), 'source, result') },
        },
        {
          kind: 'stacked',
          title: 'Questions to the sources, by answer',
          text: 'What the database or the endpoint has to bear. Many more than new consumers: ttl is short, or max_consumers too small. timeout, error: the log has the words.',
          unit: 'reqps',
          width: 8,
          nothing: 'no tier_sources',
          colors: { found$: 'green', none$: 'blue', timeout$: 'orange', error$: 'red' },
          queries: { '{{source}} {{result}}': sum(rate(ofNode(QUESTIONS)), 'source, result') },
        },
      ],
    },
  ],
}
