import t from 'tap'
import { createWatchdog } from '../../../src/gateway/exchange/watchdog.js'
import { upstreamErrorCode } from '../../../src/gateway/forward/upstream-error.js'

const coded = (code: string) => Object.assign(new Error('words'), { code })

t.test('an error of a library or the system becomes a code of the table', async (t) => {
  const expected = {
    ECONNREFUSED: 'upstream_refused',
    EHOSTUNREACH: 'upstream_refused',
    ENETUNREACH: 'upstream_refused',
    ENOTFOUND: 'upstream_refused',
    EAI_AGAIN: 'upstream_refused',
    UPSTREAM_CONNECT_TIMEOUT: 'upstream_connect_timeout',
    ETIMEDOUT: 'upstream_connect_timeout',
    EMFILE: 'overloaded',
    ENFILE: 'overloaded',
    EADDRNOTAVAIL: 'overloaded',
    UPSTREAM_MALFORMED: 'upstream_bad_response',
    HPE_INVALID_CONSTANT: 'upstream_bad_response',
    UPSTREAM_UNSENDABLE: 'internal',
    UPSTREAM_CLOSED: 'upstream_failed',
    ECONNRESET: 'upstream_failed',
    EPIPE: 'upstream_failed',
    whatever: 'upstream_failed',
  }
  for (const [code, ours] of Object.entries(expected)) t.equal(upstreamErrorCode(coded(code)), ours, code)
  t.equal(upstreamErrorCode(new Error('plain')), 'upstream_failed')
})

t.test('the watchdog', async (t) => {
  // The watchdog alone does not keep a process alive.
  const awake = setInterval(() => {}, 1_000)
  t.teardown(() => clearInterval(awake))

  t.test('checks what is watched, and nothing else', async (t) => {
    const watchdog = createWatchdog(5)
    t.teardown(() => watchdog.close())
    const seen: number[] = []
    const done = new Promise<void>((resolve) => {
      const one = {
        check(now: number) {
          seen.push(now)
          if (seen.length < 3) return
          watchdog.delete(one)
          setTimeout(resolve, 30)
        },
        broken() {},
      }
      watchdog.add(one)
    })
    t.equal(watchdog.size(), 1)
    await done
    t.equal(seen.length, 3)
    t.equal(watchdog.size(), 0)
    t.ok(seen[0]! < seen[1]! && seen[1]! < seen[2]!)
  })

  t.test('gives a time from which no timeout ends too early', async (t) => {
    const watchdog = createWatchdog(20)
    t.teardown(() => watchdog.close())
    const began = performance.now()
    const from = watchdog.now()
    const ended = await new Promise<number>((resolve) => {
      watchdog.add({ check: (now) => now - from > 50 && resolve(performance.now()), broken() {} })
    })
    t.ok(ended - began >= 50)
  })

  t.test('checks nothing once it is closed', async (t) => {
    const watchdog = createWatchdog(5)
    let checks = 0
    watchdog.add({ check: () => checks++, broken() {} })
    watchdog.close()
    await new Promise((resolve) => setTimeout(resolve, 30))
    t.equal(checks, 0)
  })
})
