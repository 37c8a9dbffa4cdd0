import t from 'tap'
import type { Decision } from '../../src/limiter/limiter.js'
import { createOutage } from '../../src/limiter/outage.js'

function opened() {
  let now = 0
  const lines: { level: string; fields: Record<string, unknown>; message: string }[] = []
  const line = (level: string) => (fields: object, message: string) =>
    lines.push({ level, fields: { ...fields }, message })
  const outage = createOutage({ info: line('info'), warn: line('warn') }, () => now)
  const decide = (decidedBy: Decision['decidedBy'], allowed = true) =>
    outage.decided({ decidedBy, allowed } as Decision)
  return { ...outage, decide, lines, pass: (ms: number) => (now += ms) }
}

t.test(
  'when the store is back, one line tells how long it was away and what was decided meanwhile',
  async (t) => {
    const { lost, recovered, decide, lines, pass } = opened()
    pass(100)
    recovered()
    t.match(lines[0], { level: 'info', fields: { degraded_ms: 100, let_through: 0, event: undefined } })
    pass(60_000)
    decide('open')
    pass(10)
    lost('timeouts')
    t.match(lines[1], { level: 'warn', fields: { event: 'degraded', reason: 'timeouts' } })
    for (let i = 0; i < 7; i++) decide('open')
    decide('local')
    decide('local', false)
    decide('closed', false)
    pass(4000)
    recovered()
    t.strictSame(lines[2]?.fields, {
      event: 'recovered',
      reason: 'timeouts',
      degraded_ms: 4000,
      let_through: 9,
      decided: { open: 8, local: 2, closed: 1 },
    })
  },
)

t.test('decisions without the store long before an outage are not part of it', async (t) => {
  const { lost, recovered, decide, lines, pass } = opened()
  recovered()
  decide('open')
  pass(60_000)
  decide('open')
  pass(60_000)
  lost('connection')
  pass(1000)
  recovered()
  t.match(lines.at(-1)?.fields, { let_through: 0, degraded_ms: 1000 })
})

t.test('losses that follow each other without a recovery are one outage', async (t) => {
  const { lost, recovered, lines, pass } = opened()
  recovered()
  pass(2000)
  lost('connection')
  pass(2000)
  lost('slow')
  pass(2000)
  recovered()
  t.match(lines.at(-1)?.fields, { degraded_ms: 4000, reason: 'slow' })
})
