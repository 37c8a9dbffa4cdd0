// Runs test files, each in a process of its own, a few at a time, and writes one TAP stream with a subtest for each. tap's
// own runner would do the same, but it puts three loaders and a record of files into every process that a test starts,
// directly or not: more CPU time than most of the tests take themselves.
import { spawn } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Parser } from 'tap-parser'

const root = fileURLToPath(new URL('..', import.meta.url))
const LOADER = new URL('typescript-loader.mjs', import.meta.url).href

/** Every test file at or under the paths; a path that holds none is a mistake. */
export function findTests(paths) {
  const files = paths.flatMap((path) => {
    const found = statSync(path).isFile()
      ? [path]
      : readdirSync(path, { recursive: true })
          .filter((name) => name.endsWith('.test.ts'))
          .map((name) => join(path, name))
    if (found.length === 0) throw new Error(`no test files in ${path}`)
    return found
  })
  return [...new Set(files.map((file) => relative(root, file)))].sort()
}

/**
 * @param jobs how many at a time
 * @param timeoutMs a file that takes longer says what it waits for and fails; one that is too busy to say so is killed
 * @param graceMs how long it may take to say so
 * @param write takes the TAP, a whole file's at a time
 */
export async function runTestFiles(files, { jobs, timeoutMs, graceMs = 5000, write }) {
  const waiting = [...files]
  let done = 0
  let failed = 0

  write('TAP version 14\n')
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const { ok, ms, output, expired } = await runFile(file, timeoutMs, graceMs)
      done++
      if (!ok) failed++
      const line = `${ok ? 'ok' : 'not ok'} ${done} - ${file} # time=${ms.toFixed(3)}ms`
      const why = expired ? `\n  ---\n  expired: ${file}\n  ...` : ''
      write(`# Subtest: ${file}\n${output.replace(/^(?=.)/gm, '    ')}${line}${why}\n`)
    }
  }
  await Promise.all(Array.from({ length: jobs }, work))
  write(`1..${done}\n`)
  return failed
}

function runFile(file, timeoutMs, graceMs) {
  const started = performance.now()
  return new Promise((resolve) => {
    const env = { ...process.env, TAP: '1', TAP_TIMEOUT: String(timeoutMs / 1000) }
    const child = spawn(process.execPath, ['--enable-source-maps', `--import=${LOADER}`, file], {
      cwd: root,
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let expired = false
    // The file keeps the time itself; here is for one that is too busy to.
    const timers = [
      setTimeout(() => {
        expired = true
        child.kill('SIGALRM')
      }, timeoutMs + graceMs),
      setTimeout(() => child.kill('SIGKILL'), timeoutMs + 2 * graceMs),
    ]
    let output = ''
    child.stdout.setEncoding('utf8')
    child.stdout.on('data', (text) => {
      output += text
    })
    child.on('close', (code) => {
      for (const timer of timers) clearTimeout(timer)
      if (output !== '' && !output.endsWith('\n')) output += '\n'
      // A process can end well before its tests have, or without any.
      const whole = Parser.parse(output).find(([event]) => event === 'complete')
      const ok = code === 0 && output !== '' && whole?.[1].ok === true
      resolve({ ok, ms: performance.now() - started, output, expired })
    })
  })
}
