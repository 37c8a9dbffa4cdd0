import t from 'tap'
import { createThrottle, throttledWarning } from '../src/log-throttle.js'

t.test('a throttle opens once per interval, and returns how often it was closed meanwhile', async (t) => {
  let now = 5
  const throttle = createThrottle(1000, () => now)
  t.equal(throttle(), 0)
  t.equal(throttle(), -1)
  now = 1004
  t.equal(throttle(), -1)
  now = 1005
  t.equal(throttle(), 2)
  t.equal(throttle(2005), 0, 'the caller may bring the time')
})

t.test('a warning is written once per interval, and the next one counts the suppressed ones', async (t) => {
  const lines: [object, string][] = []
  const warn = throttledWarning({ warn: (...line) => lines.push(line) }, 1000)
  for (const at of [0, 1, 999, 1000, 2000]) warn({ at }, 'again', at)
  t.same(lines, [
    [{ at: 0 }, 'again'],
    [{ at: 1000, suppressed: 2 }, 'again'],
    [{ at: 2000 }, 'again'],
  ])
})
