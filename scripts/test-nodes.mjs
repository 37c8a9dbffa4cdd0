// `npm run test:nodes`: runs the tests on each supported Node, in its newest version on npm, and prints a table. `npm run
// test:nodes -- 22 24` takes these. It exits with 1 if one of them fails.
import { spawn, spawnSync } from 'node:child_process'
import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const asked = process.argv.slice(2)
const rows = []
// The test of the package needs the declarations, which are the same on every Node.
spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' })
for (const major of asked.length > 0 ? asked : ['20', '22', '24', '26']) {
  const folder = join(root, '.tap/nodes', major)
  const bin = install(major, folder)
  const { stdout } = spawnSync(join(bin, 'node'), ['--version'], { encoding: 'utf8' })
  const version = stdout?.trim() || 'not installed'
  const started = performance.now()
  const { code, last } = stdout ? await runTests(bin, join(folder, 'log')) : { code: 1, last: '' }
  rows.push([version, last, `${((performance.now() - started) / 1000).toFixed(0)} s`, code === 0])
  console.log(`${version.padEnd(12)} ${code === 0 ? 'ok  ' : 'FAIL'} ${last}  .tap/nodes/${major}/log`)
}
console.log(`\n| Node | tests | |\n| --- | --- | ---: |`)
for (const [version, last, time] of rows) console.log(`| ${version} | ${last} | ${time} |`)
process.exitCode = rows.every(([, , , ok]) => ok) ? 0 : 1

/** Installs the newest version of a major from npm, and returns the folder of its program. */
function install(major, folder) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "private": true }')
  const args = ['install', '--prefix', folder, '--no-audit', '--no-fund', '--no-save', `node@${major}`]
  spawnSync('npm', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  return join(folder, 'node_modules/.bin')
}

/** Resolves with the exit code and the last line. It shows failures as they come, and logs everything. */
function runTests(bin, log) {
  const child = spawn(join(bin, 'node'), ['scripts/test.mjs', '--tests-only'], {
    cwd: root,
    env: { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const file = createWriteStream(log)
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.pipe(file, { end: false })
    stream.on('data', (data) => {
      text += data
    })
  }
  return new Promise((done) => {
    child.on('close', (code) => {
      file.end()
      for (const line of text.split('\n')) if (line.startsWith('FAIL ')) console.log(line)
      done({ code, last: text.trimEnd().split('\n').at(-1) })
    })
  })
}
