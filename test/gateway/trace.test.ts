import t from 'tap'
import { rawExchange, rawRequest } from '../support/raw.js'
import { startSite } from '../support/site.js'

const SITE = `
tiers: [free]
services: { payments: { upstreams: [PAYMENTS] } }
routes: [{ path: /payments/*, service: payments }]
`
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'
const PARENT = `00-${TRACE}-${SPAN}-01`

t.test('without tracing', async (t) => {
  const { gateway, payments } = await startSite(t, SITE)
  const send = async (...fields: string[]) => {
    const { records } = gateway
    const before = records.length
    await rawExchange(gateway.port, rawRequest('GET /payments/a', ...fields))
    await gateway.recorded(before + 1)
    return { got: payments.received.at(-1)!, trace: records.at(-1)!.trace }
  }

  t.test('what a caller sends of its trace passes on as it came, and the log knows the trace', async (t) => {
    const fields = [`TraceParent: ${PARENT}`, 'tracestate: a=1, b=2', 'tracestate: c=3', 'baggage: who=me']
    const { got, trace } = await send(...fields)
    t.same(got.values('traceparent'), [PARENT])
    t.same(got.values('tracestate'), ['a=1, b=2', 'c=3'])
    t.same(got.values('baggage'), ['who=me'])
    t.same(trace, { traceId: TRACE, spanId: SPAN, sampled: false })
  })

  t.test('one that is not valid, repeated or meant for this hop alone names no trace', async (t) => {
    for (const [fields, passed] of [
      [[], 0],
      [['traceparent: 00-abc-def-01'], 1],
      [[`traceparent: ${PARENT}`, `traceparent: ${PARENT}`], 2],
      [[`traceparent: ${PARENT}`, 'Connection: traceparent'], 0],
    ] as const) {
      const { got, trace } = await send(...fields)
      t.equal(trace, undefined, fields.join())
      t.equal(got.values('traceparent').length, passed, fields.join())
    }
  })
})
