import { execFile } from 'node:child_process'
import { mkdir, readFile, rename, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { loadInThread } from '../../../src/config/load/in-thread.js'
import { formatError, loadConfig } from '../../../src/config/load/load.js'
import { openConfig, type ReloadEvent } from '../../../src/config/load/reload.js'
import { followConfig } from '../../../src/workers/follow.js'
import { eventually } from '../../support/eventually.js'
import { startProcessOn } from '../../support/gateway/process.js'

t.jobs = 8

const MAIN = `include: [teams/*.yaml]
tiers: [free]
services: { a: { upstreams: [http://127.0.0.1:9001], limits: { free: 10/min } } }
routes: [{ path: /a/*, service: a }]
`

const team = (name: string, amount = 10) => `services:
  ${name}: { upstreams: [http://127.0.0.1:9001], limits: { free: ${amount}/min } }
routes:
  - { path: /${name}/*, service: ${name} }
`

type Files = { [name: string]: string | Files }

/** Loads `tidegate.yaml` of a folder, and returns its services, or its errors without the folder. */
function load(t: Test, files: Files, included?: { file: string; text: string }[]) {
  const dir = t.testdir(files)
  const file = join(dir, 'tidegate.yaml')
  const loaded = loadConfig(String(files['tidegate.yaml']), { file, env: { TEAM: 'teams' }, included })
  const short = (text: string) => text.replaceAll(`${dir}/`, '')
  return {
    dir,
    loaded,
    services: loaded.ok ? Object.keys(loaded.config.services) : [],
    errors: loaded.ok ? [] : loaded.errors.map(formatError).map(short),
    warnings: loaded.warnings.map(formatError).map(short),
    files: loaded.included.files.map(({ file }) => short(file)),
  }
}

t.test('services, routes and tier sources of all files count as one', async (t) => {
  const { loaded, services, files } = load(t, {
    'tidegate.yaml': MAIN.replace('[teams/*.yaml]', `["\${TEAM}/*.yaml", one.yml, "*.yaml"]`),
    teams: { 'c.yaml': team('c'), 'b.yaml': team('b'), '.hidden.yaml': 'x', 'd.yml': 'x', 'e.yaml.swp': 'x' },
    'one.yml': `${team('one')}tier_sources: [{ http: { url: "http://127.0.0.1/{consumer}" } }]`,
    'empty.yaml': '# nothing yet\n',
  })
  t.same(services, ['a', 'b', 'c', 'one'])
  t.same(files, ['teams/b.yaml', 'teams/c.yaml', 'one.yml', 'empty.yaml'], 'each once, without the main file')
  if (!loaded.ok) throw new Error('unreachable')
  t.same(
    loaded.config.routes.map(({ path }) => path),
    ['/a/*', '/b/*', '/c/*', '/one/*'],
  )
  t.equal(loaded.config.tier_sources.length, 1)
})

t.test('a main file needs no services of its own', async (t) => {
  const { services } = load(t, {
    'tidegate.yaml': 'tiers: [free]\ninclude: b.yaml\n',
    'b.yaml': team('b'),
  })
  t.same(services, ['b'])
})

t.test('each error names its file, and a duplicate both places', async (t) => {
  const { errors } = load(t, {
    'tidegate.yaml': MAIN,
    teams: {
      'b.yaml': `# b
${team('b')}tier_sources:
  - http: { url: "http://127.0.0.1/{consumer}" }
extensions: [{ name: x, module: ./x.js }]
`,
      'c.yaml': `services:
  b: { upstreams: [http://127.0.0.1:1] }
  a: { upstreams: [http://127.0.0.1:1], retires: 1 }
routes:
  - { path: /c/*, service: c }
  - { path: /b/*, service: b }
tier_sources:
  - http: { url: "http://127.0.0.1/{consumer}" }
tiers: [pro]
extensions: [{ name: x, module: ./y.js }]
`,
    },
  })
  t.same(errors, [
    'teams/c.yaml:2:3: services: duplicate key "b"; it is on line 3 of teams/b.yaml already, keep one of the two',
    'teams/c.yaml:3:3: services: duplicate key "a"; it is on line 3 of tidegate.yaml already, keep one of the two',
    'teams/c.yaml:5:28: routes[0].service: no service is named "c"; the services are a, b',
    'teams/c.yaml:6:13: routes[1].path: the same host and path as routes[0] on line 5 of teams/b.yaml; remove one, or change host, path or methods',
    'teams/c.yaml:8:5: tier_sources[0]: has the name "http" of tier_sources[0] on line 7 of teams/b.yaml; give each its own name',
    'teams/c.yaml:9:1: "tiers" cannot be in an included file, only services, routes, tier_sources, extensions; move it to the main file',
    'teams/c.yaml:10:22: extensions[0].name: "x" is the name of extensions[0] on line 8 of teams/b.yaml already; give each extension a name of its own',
  ])
})

t.test('syntax errors of all files are reported at once', async (t) => {
  const { errors } = load(t, {
    'tidegate.yaml': MAIN,
    teams: { 'b.yaml': 'services: {', 'c.yaml': 'a: b\nc\n', 'd.yaml': '- a\n' },
  })
  t.match(errors, [/^teams\/b\.yaml:1:12: /, /^teams\/c\.yaml:2:1: /])
  t.equal(errors.length, 2)
})

t.test('what cannot be included is an error', async (t) => {
  const errorsOf = (include: string, files: Files = {}) =>
    load(t, { ...files, 'tidegate.yaml': MAIN.replace('[teams/*.yaml]', include) }).errors
  t.same(errorsOf('teams/*.yaml'), [
    'tidegate.yaml:1:10: include: teams/*.yaml cannot be read (ENOENT); create it, or let this user read it',
  ])
  t.same(errorsOf('teams/*.yaml', { teams: { 'b.yml': '' } }), [
    'tidegate.yaml:1:10: include: teams/*.yaml matches no file; create one, or remove this',
  ])
  t.same(errorsOf('[a.yaml, t/*/b.yaml]'), [
    'tidegate.yaml:1:11: include[0]: a.yaml cannot be read (ENOENT); create it, or let this user read it',
    'tidegate.yaml:1:19: include[1]: t/*/b.yaml has a "*" in a folder; write it in the file name alone, such as teams/*.yaml',
  ])
  t.same(errorsOf('[3]'), ['tidegate.yaml:1:11: include[0]: "3" is read as a number; put it in quotes: "3"'])
  t.match(errorsOf('big.yaml', { 'big.yaml': '#'.repeat(1024 * 1024) }), [
    /big\.yaml: with this file, the configuration is larger than 1 MiB/,
  ])
  t.match(errorsOf('l.yaml', { 'l.yaml': '- a' }), [/^l\.yaml:1:1: must be a mapping, not a list/])
  t.match(errorsOf('l.yaml', { 'l.yaml': 'services: [a]\nroutes: 1' }), [
    /^l\.yaml:1:1: services: must be a mapping, not a list/,
    /^l\.yaml:2:1: routes: must be a list, not a single value/,
  ])
  t.match(
    errorsOf('"*.yml"', { 'a.yml': `a: [${'1,'.repeat(60_000)}]`, 'b.yml': `a: [${'1,'.repeat(60_000)}]` }),
    [/^b\.yml:1:1: with this file, the configuration holds more than 100,000 values/],
  )
})

t.test('pipes and texts that are not UTF-8 are errors; a pattern takes linear time', async (t) => {
  const dir = t.testdir({ 'latin.yaml': '' })
  await writeFile(join(dir, 'latin.yaml'), Buffer.from([0x23, 0xe9]))
  await promisify(execFile)('mkfifo', [join(dir, 'pipe.yaml')])
  const file = join(dir, 'tidegate.yaml')
  const loaded = loadConfig(MAIN.replace('teams/*.yaml', 'latin.yaml, pipe.yaml'), { file, env: {} })
  const errors = loaded.ok ? [] : loaded.errors.map(({ message }) => message.replaceAll(`${dir}/`, ''))
  t.same(errors, [
    'include[0]: latin.yaml is not UTF-8 text; save it as UTF-8',
    'include[1]: pipe.yaml is not a file; name one',
  ])
  const name = 'a'.repeat(200)
  for (const [pattern, files] of Object.entries({
    [`${'*a'.repeat(10)}b*`]: [],
    'a*aa': [name],
    '*x*.y*.yaml': ['x.y.yaml', 'x\n.y.z.yaml'],
    'ab*ba': ['abba'],
  }))
    t.same(
      load(t, {
        'tidegate.yaml': MAIN.replace('teams/*.yaml', `"in/main.yaml", "in/${pattern}"`),
        in: Object.fromEntries(
          ['main.yaml', name, 'x.y.yaml', 'x\n.y.z.yaml', 'abba', 'aba'].map((one) => [one, '']),
        ),
      }).files.slice(1),
      files.map((one) => `in/${one}`).sort(),
      pattern,
    )
})

t.test('a relative path is relative to the file that holds it; an anchor belongs to its file', async (t) => {
  const { loaded, errors } = load(t, {
    'tidegate.yaml': `${MAIN}edge: { deny: [{ file: ranges.txt }] }\n`,
    'ranges.txt': '192.0.2.0/24\n',
    teams: {
      'b.yaml': `services:
  b: &b
    upstreams: [https://127.0.0.1:9001]
    tls: { ca: ca.pem }
    limits: { free: 10/min }
  c: *b
`,
      'ca.pem': await readFile('test/fixtures/tls/ca.pem', 'utf8').catch(() => ''),
    },
  })
  if (loaded.ok) t.match(loaded.config.services.b?.tls?.ca, { file: /teams\/ca\.pem$/ })
  else
    t.notOk(
      errors.some((error) => error.includes('ENOENT')),
      errors.join('\n'),
    )
})

t.test('a thread reads the files, too, and texts that are given are not read from disk', async (t) => {
  const { dir, loaded } = load(t, { 'tidegate.yaml': MAIN, teams: { 'b.yaml': team('b') } })
  const file = join(dir, 'tidegate.yaml')
  const apart = await loadInThread(MAIN, { file, env: {} }, true)
  if (!loaded.ok || !apart.ok) throw new Error('both are good')
  t.same(apart.config, loaded.config)
  t.same(apart.included, loaded.included)
  await rm(join(dir, 'teams'), { recursive: true })
  const told = { text: MAIN, hash: '', loadedAt: 0, included: loaded.included }
  const worker = await followConfig(told, { file, env: {}, onReload() {}, onNext() {} })
  t.same(worker.current().config, loaded.config)
  t.same(worker.source(), { text: MAIN, included: loaded.included })
})

t.test('all workers apply a change of an included file', async (t) => {
  const dir = t.testdir({
    'tidegate.yaml': `${MAIN}listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\nserver: { shutdown_delay: 0s }\n`,
    teams: { 'b.yaml': team('b') },
  })
  const gateway = await startProcessOn(t, join(dir, 'tidegate.yaml'), {}, ['--workers', '2'])
  const config = async () => {
    const res = await fetch(`${gateway.admin}/config`)
    return (await res.json()) as { hash: string; workers: { hash: string }[] }
  }
  const { hash } = await config()
  await writeFile(join(dir, 'teams', 'c.yaml'), team('c'))
  await eventually(
    'both workers have it',
    async () => {
      const now = await config()
      return now.hash !== hash && now.workers.every((worker) => worker.hash === now.hash)
    },
    60_000,
  )
  t.equal(await gateway.stop(), 0)
})

async function watched(t: Test, file: string, options: { pollMs?: number } = {}) {
  const events: ReloadEvent[] = []
  let taken = 0
  const source = await openConfig({
    file,
    env: {},
    pollMs: 60_000,
    stableMs: 50,
    ...options,
    onReload: (event) => events.push(event),
  })
  t.teardown(() => source.close())
  return {
    source,
    async next() {
      await eventually('a reload', () => events.length > taken)
      return events[taken++]!
    },
    amounts: () =>
      Object.fromEntries(
        source.current().services.map(({ name, policies }) => [name, policies[0]?.limits[0]?.amount]),
      ),
  }
}

t.test('changed, new and vanished files take effect', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': MAIN, teams: { 'b.yaml': team('b') } })
  const watch = await watched(t, join(dir, 'tidegate.yaml'), { pollMs: 200 })
  const { hash } = watch.source.current()
  const file = (name: string) => join(dir, 'teams', name)
  await writeFile(file('b.yaml'), team('b', 20))
  t.match(await watch.next(), { result: 'applied', trigger: 'file' })
  t.same(watch.source.status().changed, ['services.b.limits.free: 10/min -> 20/min'])
  t.not(watch.source.current().hash, hash)
  await writeFile(file('c.yaml'), team('c'))
  t.match(await watch.next(), { result: 'applied' })
  t.same(watch.amounts(), { a: 10, b: 20, c: 10 })
  await unlink(file('b.yaml'))
  t.match(await watch.next(), { result: 'applied' })
  t.same(watch.amounts(), { a: 10, c: 10 })
  await unlink(file('c.yaml'))
  t.match(await watch.next(), { result: 'rejected', messages: [/matches no file/] })
  t.same(watch.amounts(), { a: 10, c: 10 }, 'the last good configuration goes on')
  await writeFile(file('b.yaml'), team('b'))
  t.match(await watch.next(), { result: 'applied' })
  t.equal(watch.source.current().hash, hash, 'the same configuration has the same hash')
})

t.test('a mistake in a file that is included only now is mended there', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': MAIN, teams: { 'b.yaml': team('b') }, 'more.yml': 'services: {' })
  const watch = await watched(t, join(dir, 'tidegate.yaml'))
  await writeFile(join(dir, 'tidegate.yaml'), MAIN.replace('[', '["*.yml", '))
  t.match(await watch.next(), { result: 'rejected', messages: [/more\.yml:1:12: /] })
  await writeFile(join(dir, 'more.yml'), team('more'))
  t.match(await watch.next(), { result: 'applied' })
  t.same(watch.amounts(), { a: 10, b: 10, more: 10 })
  await writeFile(join(dir, 'tidegate.yaml'), MAIN)
  t.match(await watch.next(), { result: 'applied' })
  t.same(watch.amounts(), { a: 10, b: 10 })
})

t.test('a file that an editor moves away and writes anew is not gone in between', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': MAIN, teams: { 'b.yaml': team('b'), 'c.yaml': team('c') } })
  const watch = await watched(t, join(dir, 'tidegate.yaml'))
  const file = join(dir, 'teams', 'b.yaml')
  await rename(file, `${file}~`)
  await writeFile(file, team('b', 20))
  await unlink(`${file}~`)
  t.match(await watch.next(), { result: 'applied' })
  t.same(watch.amounts(), { a: 10, b: 20, c: 10 })
})

t.test('a Kubernetes ConfigMap, which swaps the link ..data, is applied', async (t) => {
  const dir = t.testdir({ 'tidegate.yaml': MAIN, teams: { '..1': { 'b.yaml': team('b') } } })
  const teams = join(dir, 'teams')
  await symlink('..1', join(teams, '..data'))
  await symlink(join('..data', 'b.yaml'), join(teams, 'b.yaml'))
  const watch = await watched(t, join(dir, 'tidegate.yaml'))
  await mkdir(join(teams, '..2'))
  await writeFile(join(teams, '..2', 'b.yaml'), team('b', 20))
  await symlink('..2', join(teams, '..data_tmp'))
  await rename(join(teams, '..data_tmp'), join(teams, '..data'))
  t.match(await watch.next(), { result: 'applied' })
  t.same(watch.amounts(), { a: 10, b: 20 })
})
