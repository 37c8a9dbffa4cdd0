import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t from 'tap'
import { loadConfig } from '../../../src/config/load/load.js'
import { openConfig } from '../../../src/config/load/reload.js'
import { compileEdge, prepareAddresses } from '../../../src/config/snapshot/edge.js'
import { readAddress } from '../../../src/net/parse-cidr.js'
import { eventually } from '../../support/eventually.js'

t.test('a list of addresses is read again when it changes, and a bad one changes nothing', async (t) => {
  const folder = t.testdir({ 'deny.txt': '# first\n198.51.100.0/24\n' })
  const list = join(folder, 'deny.txt')
  const file = join(folder, 'tidegate.yaml')
  await writeFile(
    file,
    `
tiers: [free]
trusted_proxies: [{ file: "${list}" }]
edge: { deny: [{ file: "${list}" }] }
services: { a: { upstreams: [http://127.0.0.1:9001], limits: { free: 1/min } } }
routes: [{ path: /*, service: a }]
`,
  )
  const source = await openConfig({ file, env: {}, pollMs: 20, stableMs: 5 })
  t.teardown(() => source.close())
  const words = new Uint32Array(4)
  const denies = (address: string) => {
    const family = readAddress(address, words)
    return family !== 0 && source.current().edge.denied!.match(family, words, 0) !== 0
  }
  t.ok(denies('198.51.100.7'))
  t.ok(source.current().isTrustedProxy('198.51.100.7'))

  await writeFile(`${list}.new`, '203.0.113.7\n')
  await rename(`${list}.new`, list)
  await eventually('the new list holds', () => denies('203.0.113.7'))
  t.notOk(denies('198.51.100.7'))
  t.notOk(source.current().isTrustedProxy('198.51.100.7'))

  // Written beside, then renamed: a file that is written in place may be seen empty, which is valid.
  await writeFile(`${list}.new`, '203.0.113.8\nbanana\n')
  await rename(`${list}.new`, list)
  await eventually('it is rejected', () => source.status().lastError !== null)
  t.match(source.status().lastError?.messages.join(), /has no address block on line 2, "banana"/)
  t.ok(denies('203.0.113.7'), 'the last good one stays')
})

/** Settings of an edge that denies the addresses of a file. */
function edgeOf(list: string) {
  const text = `
tiers: [free]
edge: { deny: ["192.0.2.0/24", { file: "${list}" }] }
services: { a: { upstreams: [http://127.0.0.1:9001], limits: { free: 1/min } } }
routes: [{ path: /*, service: a }]
`
  const loaded = loadConfig(text, { file: 'test.yaml', env: {} })
  if (!loaded.ok) throw new Error(loaded.errors[0]!.message)
  return loaded.config.edge
}

t.test('a long list is compiled over many turns of the event loop, with the same result', async (t) => {
  const lines = Array.from({ length: 20_000 }, (_, i) => `10.0.${i >> 8}.${i & 255} # ${i}`)
  const folder = t.testdir({ first: lines.join('\n'), second: lines.slice(1).join('\r\n') })
  const [first, second] = [edgeOf(join(folder, 'first')), edgeOf(join(folder, 'second'))]
  let turns = 0
  let preparing = true
  const prepared = prepareAddresses(first).then(() => {
    preparing = false
  })
  while (preparing) {
    turns++
    await nextTurn()
  }
  await prepared
  t.ok(turns >= 10, `${turns} turns`)
  const made = compileEdge(first).denied!
  t.equal(made.size, 20_001)
  t.equal(compileEdge(first).denied, made, 'it is there already')
  const words = new Uint32Array(4)
  const atOnce = compileEdge(second).denied!
  t.equal(atOnce.size, 20_000)
  for (const [address, one, other] of [
    ['10.0.0.0', true, false],
    ['10.0.0.1', true, true],
    ['10.0.78.31', true, true],
    ['10.0.78.32', false, false],
    ['192.0.2.9', true, true],
  ] as const) {
    const family = readAddress(address, words)
    if (family === 0) throw new Error(address)
    t.equal(made.match(family, words, 0) !== 0, one, address)
    t.equal(atOnce.match(family, words, 0) !== 0, other, address)
  }
})

t.test('of lists in quick succession the last one holds', async (t) => {
  const folder = t.testdir({ 'deny.txt': '198.51.100.0/24\n' })
  const [list, file] = [join(folder, 'deny.txt'), join(folder, 'tidegate.yaml')]
  await writeFile(
    file,
    `
tiers: [free]
edge: { deny: [{ file: "${list}" }] }
services: { a: { upstreams: [http://127.0.0.1:9001], limits: { free: 1/min } } }
routes: [{ path: /*, service: a }]
`,
  )
  const source = await openConfig({ file, env: {}, pollMs: 600_000 })
  t.teardown(() => source.close())
  const seen = new Set<number>()
  for (let i = 1; i <= 5; i++) {
    const lines = Array.from({ length: 5000 + i }, (_, k) => `10.${i}.${k >> 8}.${k & 255}`)
    // In one step: a reload reads it while the next one is written.
    await writeFile(`${list}.new`, lines.join('\n'))
    await rename(`${list}.new`, list)
    void source.reload('admin')
    await nextTurn()
    seen.add(source.current().edge.denied!.size)
  }
  t.equal((await source.reload('admin')).result === 'rejected', false)
  t.equal(source.current().edge.denied!.size, 5005)
  for (const size of seen) t.ok(size === 1 || size > 5000, 'none is seen in part')
})
