import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { within } from '../support/within.js'

const MODULE = JSON.stringify(new URL('../../dist/cli/report-errors.js', import.meta.url).href)

/** Runs a program under the error handlers, until `end`. */
async function run(program: string) {
  const code = `import { surviveFaults } from ${MODULE}\nsurviveFaults()\n${program}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [stdout, stderr, [status]] = await within(
    30_000,
    'its end',
    Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]),
  )
  return {
    stdout,
    status,
    lines: stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  }
}

t.test('an uncaught exception is logged and ends the process', async (t) => {
  const thrown = await run(`
    setTimeout(() => console.log('lives'), 500)
    setTimeout(() => { throw new TypeError('postgres://me:hush@db/x is nobody’s') })
  `)
  t.equal(thrown.status, 1)
  t.equal(thrown.stdout, '')
  t.match(thrown.lines, [
    {
      level: 'fatal',
      msg: 'an exception was not caught; exiting',
      err: { type: 'TypeError', message: /is nobody’s/, stack: /at / },
    },
  ])
  t.notMatch(JSON.stringify(thrown.lines), /hush/)
})

t.test('an unhandled rejection is logged and does not end the process', async (t) => {
  const rejected = await run(`
    setTimeout(() => console.log('lives'), 50)
    Promise.reject(new Error('late'))
  `)
  t.equal(rejected.status, 0)
  t.equal(rejected.stdout, 'lives\n')
  t.match(rejected.lines, [
    { level: 'error', msg: 'a rejected promise was not handled', err: { message: 'late' } },
  ])
})

t.test(
  'an exception of an extension that no code caught is logged and does not end the process',
  async (t) => {
    const folder = t.testdir({
      'own.mjs': `export default { create() { setTimeout(() => { throw new Error('boom') }); setTimeout(() => { throw 'text' }) } }`,
    })
    const file = join(folder, 'own.mjs')
    const thrown = await run(`
    const { loadModule } = await import(${JSON.stringify(new URL('../../dist/extension/modules.js', import.meta.url).href)})
    const { extension } = await loadModule(${JSON.stringify(file)})
    extension.create()
    setTimeout(() => console.log('lives'), 50)
  `)
    t.equal(thrown.status, 0)
    t.equal(thrown.stdout, 'lives\n')
    t.match(thrown.lines, [
      {
        level: 'error',
        msg: `an exception of the extension in ${file} was not caught`,
        err: { message: 'boom' },
      },
      {
        level: 'error',
        msg: `an exception of the extension in ${file} was not caught`,
        err: { type: 'string', message: 'text' },
      },
    ])
  },
)
