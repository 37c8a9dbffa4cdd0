// Runs compiled test files in a few processes, and writes one TAP stream with a subtest for each file. A process takes one file after
// the other: to start Node, tap and the gateway's modules costs more than most files. One that says `// Runs alone: …` has a
// process to itself.
import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { compiledFile } from './compile.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const WORKER = fileURLToPath(new URL('test-worker.mjs', import.meta.url))

/** Folders that run only when named: fixtures that tests of the runner run, and tests that take minutes. */
const APART = /^test\/(?:fixtures|long)\//

/**
 * Finds every test file at or under the paths.
 *
 * @returns `{ name, path, alone }`: its source from the root, its compiled file, and whether it asks for a process of its own
 * @throws if a path does not exist, or holds no test
 */
export function findTests(paths) {
  const names = paths.flatMap((path) => {
    if (!existsSync(path)) throw new Error(`there is no ${path}`)
    const found = statSync(path).isFile()
      ? [path]
      : readdirSync(path, { recursive: true })
          .filter((name) => name.endsWith('.test.ts'))
          .map((name) => join(path, name))
          .filter((name) => APART.test(`${relative(root, path)}/`) || !APART.test(relative(root, name)))
    if (found.length === 0) throw new Error(`no test files in ${path}`)
    return found.map((file) => relative(root, file))
  })
  return [...new Set(names)].sort().map((name) => ({
    name,
    path: join(root, compiledFile(name)),
    alone: /^\/\/ Runs alone: \S/m.test(readFileSync(join(root, name), 'utf8')),
  }))
}

/**
 * Runs the files, those first that run alone: they take longest.
 *
 * @param jobs how many processes at a time
 * @param timeoutMs a file that takes longer says what it waits for and fails; one that is too busy to say so is killed
 * @param graceMs how long it may take to say so, and to close what it has opened: idle connections of `fetch` take 4 s
 * @param untilMs when the last file may begin, as `performance.now()` has it; those behind it are skipped
 * @param write takes the TAP, a whole file's at a time
 * @returns how many files failed
 */
export async function runTestFiles(files, { jobs, timeoutMs, graceMs = 10_000, untilMs = Infinity, write }) {
  const waiting = files.toSorted((a, b) => Number(b.alone) - Number(a.alone))
  let done = 0
  let failed = 0

  write('TAP version 14\n')
  const work = async () => {
    let worker
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      if (performance.now() > untilMs) {
        write(`ok ${++done} - ${file.name} # SKIP no time was left\n`)
        continue
      }
      worker ??= startWorker()
      const { ok, ms, tap, skip, why } = await worker.run(file, timeoutMs, graceMs)
      done++
      if (!ok) failed++
      const line = `${ok ? 'ok' : 'not ok'} ${done} - ${file.name} # ${skip === undefined ? `time=${ms.toFixed(3)}ms` : `SKIP ${skip}`}`
      const diagnostics = Object.entries(why).map(
        ([key, value]) => `\n  ---\n  ${key}: ${JSON.stringify(value)}\n  ...`,
      )
      write(`# Subtest: ${file.name}\n${tap.replace(/^(?=.)/gm, '    ')}${line}${diagnostics.join('')}\n`)
      if (file.alone || !ok) worker = worker.end()
    }
    worker?.end()
  }
  await Promise.all(Array.from({ length: jobs }, work))
  write(`1..${done}\n`)
  return failed
}

/** Workers that are running. */
const workers = new Set()

/** Ends the workers with everything that their tests have started: each worker leads a process group. */
export function stopWorkers() {
  for (const child of workers) stopGroup(child)
}

function stopGroup({ pid }) {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nothing is left of it.
  }
}

function startWorker() {
  const child = spawn(process.execPath, ['--enable-source-maps', WORKER], {
    cwd: root,
    // The worker does not use tap's root test, which would end the process when its time is up.
    env: { ...process.env, TAP: '1', TAP_TIMEOUT: '0' },
    stdio: ['ignore', 'inherit', 'inherit', 'pipe', 'pipe'],
    detached: true,
  })
  workers.add(child)
  child.once('exit', () => {
    workers.delete(child)
    // A worker that was killed, or that crashed, has run no teardown.
    stopGroup(child)
  })
  const [, , , input, output] = child.stdio
  input.on('error', () => {})
  const exited = new Promise((done) => child.once('close', (code, signal) => done(code ?? signal)))
  let tap = ''
  let begin = () => {}
  let finish = () => {}
  createInterface({ input: output }).on('line', (line) => {
    const message = JSON.parse(line)
    if (message.begun !== undefined) begin()
    else if (message.tap !== undefined) tap += message.tap
    else finish(message.result)
  })

  /** Runs one file. Resolves with its TAP, and with faults that its own tests do not report: an early exit, or a late throw. */
  async function run({ name, path }, timeoutMs, graceMs) {
    const started = performance.now()
    tap = ''
    const result = new Promise((done) => {
      finish = done
    })
    let expired = false
    let timer
    // The file keeps the time itself. This is for one that is too busy for that, or does not close what it has opened.
    begin = () => {
      timer = setTimeout(
        () => {
          expired = true
          stopGroup(child)
        },
        timeoutMs + 2 * graceMs,
      )
    }
    input.write(`${JSON.stringify({ name, path, timeoutMs, graceMs })}\n`)
    const died = exited.then((code) => ({ ok: false, code }))
    const { ok, open = '', skip, code } = await Promise.race([result, died])
    clearTimeout(timer)
    if (tap !== '' && !tap.endsWith('\n')) tap += '\n'
    const why = expired
      ? { expired: name }
      : code !== undefined
        ? { ended: code }
        : open === ''
          ? {}
          : { open }
    return { ok: ok && open === '', ms: performance.now() - started, tap, skip, why }
  }

  return { run, end: () => void input.end() }
}
