import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { scratchFolder } from './support/scratch.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Runs a command in a user's shell, without the variables about this package that `npm test` gives its children. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)))

function run(cwd: string, command: string, ...args: string[]) {
  const result = spawnSync(command, args, { cwd, env, encoding: 'utf8' })
  return { status: result.status, stdout: result.stdout, stderr: result.stderr }
}

/** Everything that a user needs, and nothing that only a developer does. */
const EXPECTED = [
  /^dist\/[\w/-]+\.(js|d\.ts)$/,
  /^dist\/admin\/page\/(index\.html|page\.css)$/,
  /^lua\/[\w-]+\.lua$/,
  /^docs\/(runbook\/)?[\w-]+\.(md|svg)$/,
  /^grafana\/(alertmanager|alerts|prometheus)\.yml$/,
  /^grafana\/(dashboards|provisioning\/\w+)\/\w+\.(json|yaml)$/,
  /^deploy\/[\w./-]+$/,
  /^examples\/[\w./-]+$/,
  /^config\/(tidegate\.yaml|schema\.json)$/,
  /^(package\.json|README\.md|LICENSE|sbom\.cdx\.json)$/,
]

t.test('the packed tarball', async (t) => {
  if (!existsSync(join(root, 'dist/cli/tidegate.js'))) {
    t.fail('dist is missing: run npm run build first (npm test does)')
    return
  }
  const folder = scratchFolder(t, 'tidegate-package-')
  // `npm test` has built dist already, and other tests run from it: prepack would rewrite it under them.
  const packed = run(root, 'npm', 'pack', '--json', '--ignore-scripts', '--pack-destination', folder)
  t.equal(packed.status, 0, packed.stderr)
  const [{ filename, files }] = JSON.parse(packed.stdout)
  const names: string[] = files.map(({ path }: { path: string }) => path)

  t.test('holds exactly the build, scripts, configuration, docs, README and LICENSE', async (t) => {
    t.strictSame(
      names.filter((name) => !EXPECTED.some((pattern) => pattern.test(name))),
      [],
      'no file that a user has no need of',
    )
    const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    const built = sources.filter((name) => name.endsWith('.ts')).map((name) => name.replace(/\.ts$/, ''))
    const scripts = readdirSync(join(root, 'lua')).map((name) => `lua/${name}`)
    // README, the example configuration and messages point to them. The screenshots would double the package.
    const pages = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.includes('.') && !name.startsWith('page/'))
      .map((name) => `docs/${name}`)
    const boards = readdirSync(join(root, 'grafana/dashboards')).map((name) => `grafana/dashboards/${name}`)
    const deploy = ['deploy', 'examples']
      .flatMap((name) => readdirSync(join(root, name), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    const page = readdirSync(join(root, 'src/admin/page')).map((name) => `dist/admin/page/${name}`)
    const needed = [
      ...page,
      ...built.flatMap((name) => [`dist/${name}.js`, `dist/${name}.d.ts`]),
      ...scripts,
      ...pages,
      ...boards,
      'grafana/alertmanager.yml',
      'grafana/alerts.yml',
      'grafana/prometheus.yml',
      'grafana/provisioning/dashboards/tidegate.yaml',
      'grafana/provisioning/datasources/prometheus.yaml',
      ...deploy,
      'config/tidegate.yaml',
      'config/schema.json',
      'README.md',
      'LICENSE',
      'package.json',
      'sbom.cdx.json',
    ]
    t.strictSame(names.toSorted(), needed.toSorted())
  })

  t.test('has a prepack script that builds it', async (t) => {
    t.equal(manifest.scripts.prepack, 'node scripts/build.mjs')
  })

  t.test('installs into an empty folder and works there', async (t) => {
    const empty = join(folder, 'empty')
    mkdirSync(empty)
    writeFileSync(join(empty, 'package.json'), '{"private":true}')
    const tarball = join(folder, filename)
    const installed = run(empty, 'npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', tarball)
    t.equal(installed.status, 0, installed.stderr)

    // The file that `npx tidegate` finds and runs.
    const command = join(empty, 'node_modules/.bin/tidegate')
    const check = run(empty, command, 'check', '--config', 'node_modules/tidegate/config/tidegate.yaml')
    t.equal(check.status, 0, check.stderr)
    t.match(check.stdout, /payments/)
    t.equal(run(empty, 'npx', '--no', '--', 'tidegate', '--version').stdout, `${manifest.version}\n`)

    // Loads every module, so a dependency that is missing from package.json shows here.
    const script = `
      import { startGateway } from 'tidegate'
      import tidegate from 'tidegate/fastify'
      import { openLimiter } from 'tidegate/limiter'
      console.log(typeof startGateway, typeof tidegate, typeof openLimiter)`
    const imported = run(empty, process.execPath, '--input-type=module', '-e', script)
    t.equal(imported.stdout, 'function function function\n', imported.stderr)
  })
})

t.test('has its metadata', async (t) => {
  t.match(manifest, {
    name: 'tidegate',
    type: 'module',
    license: 'Apache-2.0',
    engines: { node: '>=20.19' },
    bin: { tidegate: 'dist/cli/tidegate.js' },
    exports: { '.': { types: './dist/main.d.ts', default: './dist/main.js' } },
  })
  t.match(readFileSync(join(root, 'LICENSE'), 'utf8'), /Apache License\s+Version 2\.0/)
})
