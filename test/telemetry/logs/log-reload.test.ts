import t from 'tap'
import type { ReloadEvent } from '../../../src/config/load/reload.js'
import { logReload } from '../../../src/telemetry/logs/log-reload.js'
import { exampleSnapshot } from '../../support/gateway/snapshot.js'

t.test('the outcome of a reload is logged at a level that matches its importance', async (t) => {
  const snapshot = exampleSnapshot()
  const levelOf = (changes: Partial<ReloadEvent>) => {
    let level: string | undefined
    const note = (name: string) => () => {
      level = name
    }
    const event: ReloadEvent = {
      result: 'unchanged',
      messages: [],
      trigger: 'file',
      snapshot,
      previous: snapshot,
      durationMs: 1,
      ...changes,
    }
    logReload({ debug: note('debug'), info: note('info'), error: note('error') }, event, [])
    return level
  }
  t.equal(levelOf({ result: 'rejected' }), 'error')
  t.equal(levelOf({ result: 'applied' }), 'info')
  t.equal(levelOf({ repaired: true }), 'info', 'a repaired file is confirmed')
  t.equal(levelOf({}), 'debug')
})
