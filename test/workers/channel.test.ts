import { fork } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { openChannel } from '../../src/workers/channel.js'

type OfOther = {
  double: [number, number]
  fail: [null, null]
  never: [null, null]
  exit: [null, null]
  unknown: [null, null]
}

/** Code of the other process: it asks as well as it answers. */
const OTHER = `
import { openChannel } from ${JSON.stringify(new URL('../../dist/workers/channel.js', import.meta.url).href)}
const channel = openChannel(process, {
  async double(number) { return 2 * number + (await channel.ask('add', null, 5000)) },
  fail() { throw new Error('not that one') },
  never: () => new Promise(() => {}),
  exit: () => process.exit(3),
})
`

t.test('two processes ask each other', async (t) => {
  const file = `${t.testdir({ 'other.mjs': OTHER })}/other.mjs`
  const child = fork(file, [], { execArgv: [] })
  const exited = once(child, 'exit')
  t.teardown(() => child.kill('SIGKILL'))
  const channel = openChannel<OfOther>(child, { add: () => 1 })

  const answers = await Promise.all([1, 2, 3].map((number) => channel.ask('double', number, 20_000)))
  t.strictSame(answers, [3, 5, 7], 'each answer goes to its question')
  await t.rejects(channel.ask('fail', null, 20_000), { message: 'not that one' })
  await t.rejects(channel.ask('unknown', null, 20_000), { message: /the question unknown is unknown here/ })
  await t.rejects(channel.ask('never', null, 20), { message: 'no answer to never within 20 ms' })
  const last = channel.ask('never', null, 60_000)
  channel.ask('exit', null, 60_000).catch(() => {})
  await t.rejects(last, { message: 'the process is gone' })
  t.strictSame(await exited, [3, null])
  await t.rejects(channel.ask('double', 1, 60_000), { message: 'the process is gone' })
})
