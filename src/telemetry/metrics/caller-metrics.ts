import { counter, from, fromEach, gauge, SERVICE, setAll } from './define-metric.js'

/** Metrics of callers: their tokens, tiers, bans, and what they hold of what all share. */
export const CALLER_METRICS = {
  shareHeld: gauge('tidegate.share.held', 'tidegate_share_held', {
    help: 'Amount of a shared resource that all callers hold now.',
    labels: ['share', SERVICE],
    read: fromEach('shares', ({ name, service, held }, set) => set(held, name, service)),
  }),
  shareRefused: counter('tidegate.share.refused', 'tidegate_share_refused_total', {
    unit: '{attempt}',
    help: 'Attempts to take a shared resource that failed. caller: the caller holds its share already. all: everything is taken.',
    labels: ['share', SERVICE, 'reason'],
    read: fromEach('shares', ({ name, service, refused }, set) => setAll(set, refused, name, service)),
  }),
  bans: gauge('tidegate.bans', 'tidegate_bans', {
    unit: '{block}',
    help: 'Banned blocks of addresses, by source: manual, auto or config.',
    labels: ['source'],
    across: 'max',
    read: from('bans', (bans, set) => setAll(set, bans)),
  }),
  tokens: counter('tidegate.jwt.tokens', 'tidegate_jwt_tokens_total', {
    unit: '{token}',
    help: 'Tokens by issuer and result of their check. cached: the token was found valid before.',
    labels: ['issuer', 'result'],
    read: fromEach('tokens', (one, set) => {
      if (one.issuer === 'none') set(one.tokens.invalid, 'none', 'invalid')
      else setAll(set, one.tokens, one.issuer)
    }),
  }),
  unknownTiers: counter('tidegate.jwt.unknown_tiers', 'tidegate_jwt_unknown_tiers_total', {
    unit: '{token}',
    help: 'Valid tokens whose tier the configuration does not have.',
    labels: ['issuer'],
    read: fromEach('tokens', ({ issuer, unknownTiers }, set) => {
      if (issuer !== 'none') set(unknownTiers, issuer)
    }),
  }),
  forwardAuth: counter('tidegate.forward_auth.requests', 'tidegate_forward_auth_requests_total', {
    unit: '{request}',
    help: 'Requests that an auth service decides on, by result: cached, allowed, denied, failed (no decision), or busy (the service was not asked).',
    labels: ['auth_service', 'result'],
    read: fromEach('forwardAuth', ({ service, results }, set) => setAll(set, results, service)),
  }),
  jwksFetches: counter('tidegate.jwks.fetches', 'tidegate_jwks_fetches_total', {
    unit: '{fetch}',
    help: "Attempts to fetch an issuer's keys, by result.",
    labels: ['issuer', 'result'],
    read: fromEach('tokens', ({ issuer, jwks }, set) => {
      if (jwks) setAll(set, jwks.fetches, issuer)
    }),
  }),
  jwksKeys: gauge('tidegate.jwks.keys', 'tidegate_jwks_keys', {
    unit: '{key}',
    help: 'Fetched keys of an issuer that are in use. 0: its tokens cannot be checked.',
    labels: ['issuer'],
    across: 'min',
    read: fromEach('tokens', ({ issuer, jwks }, set) => {
      if (jwks) set(jwks.keys, issuer)
    }),
  }),
  jwksAge: gauge('tidegate.jwks.age', 'tidegate_jwks_age_seconds', {
    unit: 's',
    help: "Time since an issuer's keys were fetched.",
    labels: ['issuer'],
    across: 'max',
    read: fromEach('tokens', ({ issuer, jwks }, set) => {
      if (jwks?.ageMs !== undefined) set(jwks.ageMs / 1000, issuer)
    }),
  }),
  tierLookups: counter('tidegate.tier.lookups', 'tidegate_tier_lookups_total', {
    unit: '{request}',
    help: 'Requests whose tier was looked up in a source, by state of the cache: hit, stale, negative, miss or skipped.',
    labels: ['source', 'result'],
    read: fromEach('tierSources', ({ source, counts }, set) => setAll(set, counts.lookups, source)),
  }),
  tierQuestions: counter('tidegate.tier.source_questions', 'tidegate_tier_source_questions_total', {
    unit: '{question}',
    help: 'Queries to a tier source, by result: found, none, timeout, error, or dropped before its turn.',
    labels: ['source', 'result'],
    read: fromEach('tierSources', ({ source, counts }, set) => setAll(set, counts.questions, source)),
  }),
  tierUnknown: counter('tidegate.tier.unknown', 'tidegate_tier_unknown_total', {
    unit: '{request}',
    help: 'Requests for which a tier source named a tier that the configuration does not have.',
    labels: ['source'],
    read: fromEach('tierSources', ({ source, counts }, set) => set(counts.unknownTiers, source)),
  }),
  tierProtocolErrors: counter(
    'tidegate.tier.source_protocol_errors',
    'tidegate_tier_source_protocol_errors_total',
    {
      unit: '{connection}',
      help: 'Connections to a tier source that the gateway closed because the server broke the protocol.',
      labels: ['source'],
      read: fromEach('tierSources', ({ source, counts }, set) => set(counts.protocolErrors, source)),
    },
  ),
  tierSourceUp: gauge('tidegate.tier.source_up', 'tidegate_tier_source_up', {
    help: '1 while a tier source answers, 0 while it is down and the last known tiers hold.',
    labels: ['source'],
    across: 'min',
    read: fromEach('tierSources', ({ source, up }, set) => set(Number(up), source)),
  }),
  tierSourceRemembered: gauge('tidegate.tier.source_remembered', 'tidegate_tier_source_remembered', {
    unit: '{consumer}',
    help: 'Consumers whose tier is cached from a source.',
    labels: ['source'],
    read: fromEach('tierSources', ({ source, remembered }, set) => set(remembered, source)),
  }),
}
