// Runs alone: it measures the memory of the process.
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { createRing } from '../../../src/telemetry/decisions/decision-ring.js'
import { exampleDecision, exampleRecord, exampleSnapshot } from '../../support/gateway/snapshot.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void
const SIZE = 2000
/**
 * 512 bytes of text, 9 lengths, 54 numbers, an object of eleven fields, and room for what else the process allocates
 * meanwhile. A text that is not copied would hold 16 KB.
 */
const MOST = 512 + 18 + 54 * 8 + 112 + 926

const snapshot = exampleSnapshot()
const place = { config: snapshot.hash, route: null, service: null, quota_of: null, tier: null }

function memoryUsed(): number {
  collectGarbage()
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

for (const [name, letter] of [
  ['ASCII', 'x'],
  ['other letters', '名'],
] as const) {
  t.test(
    `however long what callers send is, a kept decision takes at most ${MOST} bytes: ${name}`,
    async (t) => {
      const empty = memoryUsed()
      const ring = createRing(SIZE, true)
      const fill = (run: number) => {
        for (let i = 0; i < SIZE; i++) {
          // A text of its own for each, as from a socket. All that is kept is cut out of it.
          const sent = Buffer.from(`${run}-${i}-${letter.repeat(16_000)}`).toString()
          const part = (from: number) => sent.slice(from, from + 400)
          const numbers = new Array<number>(40).fill(i)
          const counted = { at: i, numbers }
          ring.write(
            exampleRecord(snapshot, {
              requestId: part(0),
              method: part(100),
              host: part(200),
              target: `/${part(300)}?${sent}`,
              consumer: part(400),
              tenant: part(500),
              clientIp: part(600),
              cause: part(700),
              decision: exampleDecision({ allowed: false, counted }),
            }),
            place,
            i,
          )
        }
      }
      fill(0)
      const before = memoryUsed()
      for (let run = 1; run < 4; run++) fill(run)
      const grown = memoryUsed() - before
      t.ok(grown < (SIZE * MOST) / 10, `${grown} bytes more after it was written over three times`)
      t.equal(ring.reach().kept, SIZE)
      const each = (memoryUsed() - empty) / SIZE
      t.ok(each < MOST, `${Math.round(each)} bytes each`)
    },
  )
}
