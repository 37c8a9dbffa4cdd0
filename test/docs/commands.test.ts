import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { freePort } from '../support/free-port.js'
import { spawnCli, tidegate } from '../support/gateway/cli.js'
import { CLI } from '../support/gateway/process.js'
import { type Page, ROOT, readPages } from '../support/pages.js'

/**
 * Runs the blocks with `<!-- run -->` above them, page by page and in order, with the demo (`npm start`) running and its configuration in
 * the folder. Their output must be what the page shows, except for numbers, hashes and times. A line that is `tidegate` and its arguments
 * is called in this process; bash runs all others.
 */
const MARK = 'run'
const PORTS = [8080, 8081, 9001, 9002]

interface Step {
  readonly line: number
  readonly command: string
  readonly shown: string
}

/** Splits a block into commands and their expected output. `$ ` begins a command, which goes on after a line that ends in a backslash. */
function stepsOf(page: Page): Step[] {
  return page.blocks
    .filter(({ mark }) => mark === MARK)
    .flatMap(({ text, line }) => {
      const steps: Step[] = []
      text.split('\n').forEach((one, i) => {
        const last = steps.at(-1)
        if (one.startsWith('$ ')) steps.push({ line: line + i, command: one.slice(2), shown: '' })
        else if (last === undefined) throw new Error(`${page.path}:${line}: does not begin with "$ "`)
        else if (last.shown === '' && last.command.endsWith('\\'))
          steps[steps.length - 1] = { ...last, command: `${last.command.slice(0, -1)} ${one.trim()}` }
        else steps[steps.length - 1] = { ...last, shown: `${last.shown}${one}\n` }
      })
      return steps
    })
}

/** Replaces everything in an output that differs from run to run. */
function shapeOf(text: string): string {
  return text
    .replaceAll('\r', '')
    .replace(/# .*$/gm, '')
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replace(/\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]+ GMT/g, 'TIME')
    .replace(/\b[0-9a-f]{12}(?:-[0-9a-z]+)?\b/g, 'ID')
    .replace(/\d+(?:\.\d+)?/g, '0')
    .replace(/ +/g, ' ')
    .replace(/^ | $/gm, '')
    .trim()
}

/** Returns the arguments, as bash reads them, of a line that only calls `tidegate`; undefined if the line needs bash. */
function argumentsOf(command: string): string[] | undefined {
  const line = /^(?:npx )?tidegate((?: +(?:[\w@%+=:,./-]+|'[^']*'|"[^"$`\\]*"))*) *(?:#.*)?$/.exec(
    command,
  )?.[1]
  return line?.match(/'[^']*'|"[^"]*"|\S+/g)?.map((word) => word.replace(/^(['"])(.*)\1$/, '$2')) ?? undefined
}

async function startDemo(t: Test) {
  const ports = await Promise.all(PORTS.map(() => freePort()))
  const onPorts = (text: string) =>
    PORTS.reduce((all, port, i) => all.replaceAll(`:${port}`, `:${ports[i]}`), text)
  const folder = t.testdir({ config: {}, bin: {} })
  mkdirSync(join(folder, 'docs'))
  writeFileSync(
    join(folder, 'config/tidegate.yaml'),
    onPorts(readFileSync(join(ROOT, 'config/tidegate.yaml'), 'utf8')),
  )
  const write = (name: string, script: string) => {
    writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(folder, 'bin', name), 0o755)
  }
  write('tidegate', `exec "${process.execPath}" "${CLI}" "$@"`)
  // The page means the installed command.
  write('npx', '[ "$1" = tidegate ] || exit 127; exec "$@"')
  const demo = spawnCli(['demo', '--config', 'config/tidegate.yaml'], { cwd: folder })
  t.teardown(() => demo.child.kill('SIGKILL'))
  await demo.printed(/Ctrl-C stops all of it/)
  const env = { PATH: `${join(folder, 'bin')}:${process.env.PATH}`, NO_COLOR: '1' }
  const inBash = (command: string): Promise<string> =>
    new Promise((resolve) => {
      const options = { cwd: folder, env: { ...process.env, ...env }, timeout: 20_000 }
      execFile('bash', ['-c', command], options, (_, stdout, stderr) => {
        resolve(stdout + stderr.replace(/^ *% Total[\s\S]*$/m, ''))
      })
    })
  return async (command: string): Promise<string> => {
    const args = argumentsOf(onPorts(command))
    if (args === undefined) return inBash(onPorts(command))
    const { stdout, stderr } = await tidegate(args, { cwd: folder, env })
    return stdout + stderr
  }
}

const pages = readPages().filter((page) => stepsOf(page).length > 0)

t.test('some pages have commands to run', async (t) => {
  t.ok(pages.length > 0)
})

for (const page of pages) {
  t.test(`the commands of ${page.path} print what it shows`, async (t) => {
    const run = await startDemo(t)
    for (const { line, command, shown } of stepsOf(page)) {
      const printed = await run(command)
      t.equal(shapeOf(printed), shapeOf(shown), `${page.path}:${line}: ${command}`, { printed })
    }
  })
}
