import fc from 'fast-check'
import type { Test } from 'tap'
import { agree, mutated } from '../support/http/mutated-requests.js'
import { checkSame, plans, startPairs } from '../support/http/reader-pairs.js'
import { holds, type Target } from './target.js'

/** `npm test` tries more of them in `test/gateway/listen/plain/head.test.ts`. */
export const plainRequests: Target = {
  name: 'plain-requests',
  what: "Node's parser reads every request as the plain path does, or the plain path leaves it alone",
  short: 10,
  open: () =>
    holds(fc.array(mutated, { minLength: 1, maxLength: 100 }), async (list) => {
      for (const bytes of list) await agree(bytes)
    }),
}

export const tlsRequests: Target = {
  name: 'tls-requests',
  what: "over TLS, upstreams and clients get the same from the plain path as from Node's parser",
  short: 1,
  async open(t) {
    const pairs = await startPairs(t as Test, 10)
    return holds(fc.array(plans, { minLength: 1, maxLength: pairs.length }), async (list) => {
      await Promise.all(list.map((plan, i) => checkSame(pairs[i]!, plan)))
    })
  },
}
