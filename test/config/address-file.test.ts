import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { readAddress } from '../../src/config/address-words.js'
import { openConfig } from '../../src/config/reload.js'
import { eventually } from '../support/eventually.js'

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

  await writeFile(list, '203.0.113.8\nbanana\n')
  await eventually('it is rejected', () => source.status().lastError !== null)
  t.match(source.status().lastError?.messages.join(), /has on line 2 no address block, "banana"/)
  t.ok(denies('203.0.113.7'), 'the last good one stays')
})
