// One request: what the gateway decided about it, and why.

import { ask, Refused, segment } from './api.js'
import {
  bar,
  consumerLink,
  element,
  facts,
  hashMark,
  limitName,
  note,
  section,
  serviceLink,
  show,
  table,
  timeOf,
} from './elements.js'
import { decidedText, kindText, milliseconds, number, seen, tierText } from './figures.js'

export const view = {
  title: ({ id = '' }) => `Request ${id}`,
  open(root, { id = '' }) {
    return {
      async refresh(signal) {
        try {
          const { body } = await ask(`/decisions/${segment(id)}`, { signal })
          if (!signal.aborted) show(root, ...parts(body))
        } catch (error) {
          if (!(error instanceof Refused) || ![400, 404].includes(error.status)) throw error
          show(root, notFound(id, error.detail))
        }
      },
    }
  },
}

function notFound(id, detail) {
  return section(
    'Not found',
    {},
    element('p', {}, seen(detail)),
    id === '' ? null : element('p', {}, 'If this is the id of a consumer, see ', consumerLink(id), '.'),
  )
}

function parts(d) {
  const { decision, hooks = [] } = d
  return [
    element('p', { class: 'lead' }, seen(d.why)),
    element(
      'div',
      { class: 'columns' },
      section(
        'Request',
        {},
        facts([
          ['time', timeOf(d.time)],
          ['request', `${d.method} ${d.host}${d.path}`],
          ['client', d.client_ip],
          [
            'response',
            d.status === 0 ? 'none was sent' : [d.status, d.error, d.cause].filter(Boolean).join(' '),
          ],
          ['took', milliseconds(d.duration_ms)],
          ['same id', d.times > 1 ? `of ${number(d.times)} requests with this id, the latest` : null],
        ]),
      ),
      section(
        'Consumer',
        {},
        facts([
          ['consumer', d.consumer === null ? 'not identified' : consumerOf(d.consumer)],
          ['identified by', kindText(d.identified_by)],
          ['API key', d.key_id],
          ['tenant', d.tenant],
          ['tier', d.tier === null ? null : `${d.tier}, ${tierText(d)}`],
          ['tier until', d.tier_until === null ? null : timeOf(d.tier_until)],
          ['not checked', uncheckedText(d)],
        ]),
      ),
      section(
        'Decision',
        {},
        facts([
          ['decided', decision === null ? 'no limit was checked' : decidedText(decision.decided_by)],
          ['binding limit', decision?.binding],
          ['cost', d.cost],
          ['deciding took', decision === null ? null : milliseconds(decision.took_ms)],
        ]),
        ...d.limits.map(limitRow),
      ),
      section(
        'Route and upstream',
        {},
        facts([
          ['route', d.route ?? 'none'],
          ['service', d.service === null ? null : serviceLink(d.service)],
          ['quota of', d.quota_of],
          ['upstream', d.upstream ?? 'not sent to any'],
          ['upstream took', d.upstream === null ? null : milliseconds(d.upstream_ms)],
          ['gateway', d.worker === null ? d.node : `${d.node}, worker ${d.worker}`],
          ['configuration', hashMark(d.config)],
        ]),
      ),
    ),
    hooks.length === 0
      ? null
      : section(
          'Extensions',
          {},
          table({
            caption: 'Extensions',
            heads: ['extension', 'hook', 'effect'],
            rows: hooks.map(({ extension, hook, effect }, i) => ({
              key: i,
              cells: [seen(extension), hook, [seen(effect), 'why']],
            })),
          }),
        ),
  ]
}

/** A gateway keeps the first 80 characters of an id: a longer one does not lead to the consumer. */
const consumerOf = (consumer) => (consumer.endsWith('…') ? seen(consumer) : consumerLink(consumer))

function uncheckedText({ tier_unchecked: tier, limits_unchecked: limits }) {
  const parts = [tier && 'whether a tier is assigned', limits && 'boosts and overrides'].filter(Boolean)
  return parts.length === 0 ? null : `${parts.join(', ')}: the store could not tell`
}

function limitRow(limit) {
  const { used, remaining, allows, binding, denied } = limit
  const state = denied ? 'denied the request' : binding ? 'had the least left' : ''
  const label = used === null ? 'its count is not known' : `${number(used)} of ${number(allows)} used before`
  return element(
    'div',
    { class: 'limit plain' },
    limitName(limit),
    element(
      'div',
      {},
      used === null
        ? null
        : bar({ parts: [[used / Math.max(1, allows), remaining === 0 || denied ? 'over' : 'used']], label }),
      note([label, state].filter(Boolean).join('; ')),
    ),
  )
}
