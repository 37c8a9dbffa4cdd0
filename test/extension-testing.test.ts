import t from 'tap'
import { defineExtension, respond } from '../src/extension/define.js'
import { runHook, startExtension } from '../src/extension-testing.js'

const extension = defineExtension({
  options: {
    type: 'object',
    properties: { wait: { type: 'string', format: 'duration', default: '1s' }, name: { type: 'string' } },
  },
  create({ options, log, signal }) {
    signal.addEventListener('abort', () => log.warn('over'))
    let calls = 0
    return {
      async onRequest(request) {
        calls++
        log.info('called', { calls })
        return request.header('X-Name') === options.name ? undefined : respond(403, { detail: request.path })
      },
      cost: { body: { max: '1kB', as: 'json' }, run: (_, body) => (body as { n: number }).n },
      onResponse: (_, response) => ({
        headers: { 'x-was': `${response.status}`, 'x-type': response.header('Content-Type') ?? null },
      }),
      onDenied: (_, denial) => ({ detail: `${denial.limit} ${denial.cost}` }),
    }
  },
})

t.test('a hook runs without a gateway', async (t) => {
  const options = { name: 'a' }
  t.equal(await runHook(extension, 'onRequest', { headers: { 'x-name': 'a' } }, options), undefined)
  t.match(await runHook(extension, 'onRequest', { path: '/p' }, options), {
    status: 403,
    problem: { detail: '/p' },
  })
  t.equal(await runHook(extension, 'cost', { body: { n: 3 } }), 3)
  const response = { status: 201, headers: { 'content-type': 'text/plain' } }
  t.strictSame(await runHook(extension, 'onResponse', { response }), {
    headers: { 'x-was': '201', 'x-type': 'text/plain' },
  })
  t.strictSame(await runHook(extension, 'onDenied', { denial: { cost: 7 } }), { detail: 'minute 7' })
  await t.rejects(runHook(extension, 'identify'), { message: 'the extension has no hook identify' })
})

t.test('several requests can share an instance', async (t) => {
  const started = await startExtension(extension)
  await started.run('onRequest')
  await started.run('onRequest')
  started.end()
  t.strictSame(started.lines, [
    { level: 'info', message: 'called', fields: { calls: 1 } },
    { level: 'info', message: 'called', fields: { calls: 2 } },
    { level: 'warn', message: 'over', fields: {} },
  ])
})

t.test('options are read as the gateway reads them', async (t) => {
  await t.rejects(runHook(extension, 'onRequest', {}, { nam: 'a', wait: 'long' }), {
    message: /options: unknown key "nam"; did you mean "name"\?\n.*options.wait: "long" is not a duration/,
  })
})
