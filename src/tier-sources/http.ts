import { Pool } from 'undici'
import { parseJson } from '../common/json.js'
import type { HttpSource } from '../config/schema/tier-sources.js'
import { CONSUMER } from '../config/values/tier-source-url.js'
import { type Directory, NoAnswerForOne, type TierAnswer, tierAnswerOf } from './tier-answer.js'

/** Longest answer that is read, in bytes. */
const MOST = 65_536
/**
 * Statuses that are about the question itself: an endpoint rejects the id in it, or reports a problem with this
 * consumer.
 */
const OF_THE_QUESTION = [400, 409, 413, 414, 422, 431, 451]

/** Opens an HTTP endpoint that answers GET with JSON, or with 404 for a consumer that it does not know. */
export function openHttp(
  settings: Pick<HttpSource, 'url' | 'headers' | 'tier' | 'tenant' | 'timeout' | 'pool'>,
): Directory {
  const { timeout } = settings
  const [, origin = '', rest = ''] = /^(https?:\/\/[^/?#]+)(.*)$/.exec(settings.url) ?? []
  const target = rest.startsWith('/') ? rest : `/${rest}`
  const pieces = target.split(CONSUMER)
  const inPath = pieces[0]!.indexOf('?') < 0
  const headers = { accept: 'application/json', 'user-agent': 'tidegate', ...settings.headers }
  const pool = new Pool(origin, {
    connections: settings.pool,
    pipelining: 1,
    connect: { timeout },
    headersTimeout: timeout,
    bodyTimeout: timeout,
    maxResponseSize: MOST,
  })

  return {
    async look(consumer, signal) {
      // As a path segment these ids name another place, escaped or not (WHATWG URL, double-dot URL path segment).
      if (inPath && /^\.{1,2}$/.test(consumer)) return undefined
      const path = pieces.join(encodeURIComponent(consumer))
      const { statusCode, body } = await pool.request({ method: 'GET', path, headers, signal })
      if (statusCode !== 200) {
        await body.dump({ limit: MOST, signal }).catch(() => {})
        if (statusCode === 404 || statusCode === 204 || statusCode === 410) return undefined
        const why = `it answers ${statusCode}`
        throw OF_THE_QUESTION.includes(statusCode) ? new NoAnswerForOne(why) : new Error(why)
      }
      return readPlan(await body.text(), settings)
    },
    close: () => pool.destroy(),
  }
}

function readPlan(
  text: string,
  { tier, tenant }: Pick<HttpSource, 'tier' | 'tenant'>,
): TierAnswer | undefined {
  const document = parseJson(text)
  if (document === undefined) throw new Error('it answers with something that is not JSON')
  return tierAnswerOf(memberOf(document, tier), tenant === undefined ? undefined : memberOf(document, tenant))
}

/** Reads a member of the document by path. Only own members count: what every object inherits is no answer. */
function memberOf(document: unknown, path: string): unknown {
  let value = document
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
    value = (value as Record<string, unknown>)[name]
  }
  return value
}
