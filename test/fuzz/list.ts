import { forwarded, lists, proxyProtocol } from './addresses.js'
import { arithmetic } from './arithmetic.js'
import { http1Backends, http2Backends, upgradeBackends } from './backends.js'
import { config } from './config.js'
import { forgedTokens, jwks, signatures } from './credentials.js'
import { http2 } from './http2.js'
import { maps } from './maps.js'
import { paths } from './paths.js'
import { plainRequests, tlsRequests } from './readers.js'
import { redis } from './redis.js'
import { replies } from './replies.js'
import { requests } from './requests.js'
import { responses } from './responses.js'
import { evilDatabases, evilReplies, evilStores } from './stores.js'
import type { Target } from './target.js'
import { tokens } from './tokens.js'
import { wholeResponses } from './whole-responses.js'

export const TARGETS: readonly Target[] = [
  config,
  paths,
  forwarded,
  proxyProtocol,
  lists,
  tokens,
  forgedTokens,
  jwks,
  signatures,
  requests,
  plainRequests,
  tlsRequests,
  http2,
  responses,
  wholeResponses,
  http1Backends,
  http2Backends,
  upgradeBackends,
  redis,
  replies,
  evilReplies,
  evilStores,
  evilDatabases,
  maps,
  arithmetic,
]
