import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openConfig } from '../../../src/config/load/reload.js'
import { EXAMPLE, startAdmin } from '../../support/gateway/admin.js'

/** Uses a real file, which only the API makes it read again. */
async function startOnFile(t: Test) {
  const file = join(t.testdir({ 'tidegate.yaml': EXAMPLE }), 'tidegate.yaml')
  const config = await openConfig({ file, env: {}, pollMs: 60_000, stableMs: 60_000 })
  t.teardown(() => config.close())
  const { call } = await startAdmin(t, { config })
  return { file, config, call, reload: () => call('POST', '/config/reload') }
}

t.test('shows the configuration in force, without secrets', async (t) => {
  const { call, config } = await startOnFile(t)
  const { status, json, text } = await call('GET', '/config')
  t.equal(status, 200)
  t.match(json, { hash: config.current().hash, loadedAt: /^\d{4}-.*Z$/, lastError: null, changed: [] })
  t.notMatch(text, /the-key-of-acme/)
})

t.test('a valid file is applied, the same file is unchanged', async (t) => {
  const { file, call, config, reload } = await startOnFile(t)
  t.match(await reload(), { status: 200, json: { result: 'unchanged' } })
  const before = config.current().hash
  writeFileSync(file, EXAMPLE.replace('free: 10/min', 'free: 20/min'))
  const applied = await reload()
  t.match(applied, { status: 200, json: { result: 'applied', changed: [/payments\.limits\.free.*20\/min/] } })
  t.not(applied.json.hash, before)
  t.equal((await call('GET', '/config')).json.hash, applied.json.hash)
  t.match(await call('POST', '/config/reload', { body: {} }), { status: 200, json: { result: 'unchanged' } })
  const typed = await call('POST', '/config/reload', { headers: { 'content-type': 'application/json' } })
  t.equal(typed.status, 200, 'a type without a body is forgiven')
})

t.test('a bad file changes nothing, and every error is listed', async (t) => {
  const { file, call, config, reload } = await startOnFile(t)
  const before = config.current().hash
  writeFileSync(
    file,
    EXAMPLE.replace('free: 10/min', 'free: 10/fortnight').replace('service: marketing', 'service: marketin'),
  )
  const { status, headers, json } = await reload()
  t.equal(status, 422)
  t.equal(headers['content-type'], 'application/problem+json')
  t.match(json, {
    code: 'unprocessable',
    result: 'rejected',
    messages: [/tidegate\.yaml:\d+:\d+: /, /tidegate\.yaml:\d+:\d+: /],
  })
  const after = await call('GET', '/config')
  t.match(after.json, { hash: before, lastError: { messages: json.messages } })
})

t.test('lists the latest reloads, newest first, with who asked for them', async (t) => {
  const { file, call, config, reload } = await startOnFile(t)
  const before = config.current().hash
  t.same((await call('GET', '/config')).json.reloads, [])
  writeFileSync(file, EXAMPLE.replace('free: 10/min', 'free: 20/min'))
  const applied = await reload()
  t.notOk('reloads' in applied.json, 'the answer is about this one')
  writeFileSync(file, EXAMPLE.replace('free: 10/min', 'free: 10/fortnight'))
  const { json: rejected } = await reload()
  writeFileSync(file, EXAMPLE)
  await config.reload('signal')
  const after = { hash: applied.json.hash, by: 'admin', who: 'loopback' }
  t.match((await call('GET', '/config')).json.reloads, [
    { result: 'applied', hash: before, by: 'signal', who: null, changed: [/20\/min -> 10\/min/] },
    { result: 'rejected', ...after, changed: [], messages: rejected.messages },
    { at: /^\d{4}-.*Z$/, result: 'applied', ...after, changed: [/10\/min -> 20\/min/], messages: [] },
  ])
  t.notOk('reloads' in (await call('GET', '/overview')).json.config, 'the overview stays small')
})
