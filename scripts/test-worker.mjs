// A process of the test run: runs compiled test files, one after the other, as it is told on descriptor 3, and tells on
// descriptor 4 what became of each. Both speak lines of JSON; at the end of its input it ends by itself.
import { readSync, writeSync } from 'node:fs'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { Test } from 'tap'
import { setFileTest } from './file-test.mjs'

/** Ms between two looks. */
const LOOK = 20

const tell = (message) => {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`)
  for (let at = 0; at < bytes.length; ) at += writeSync(4, bytes, at)
}

/** Reads the next line of descriptor 3, and waits for it: nothing else is to happen meanwhile. */
function nextLine() {
  const bytes = Buffer.alloc(1)
  let line = ''
  while (readSync(3, bytes, 0, 1) === 1) {
    if (bytes[0] === 10) return line
    line += bytes.toString('latin1')
  }
  return undefined
}

/** What keeps the process alive, by kind: `{ TCPSocketWrap: 2 }`. */
function openResources() {
  const counts = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

/** The kinds of which there are more than before: `TCPSocketWrap (2), Timeout (1)`; empty: none. */
function leftOpen(before) {
  return Object.entries(openResources())
    .map(([kind, count]) => [kind, count - (before[kind] ?? 0)])
    .filter(([, more]) => more > 0)
    .map(([kind, more]) => `${kind} (${more})`)
    .join(', ')
}

/** Resolves with what is still open after the time for closing, which is nothing as a rule. */
async function waitForClosing(before, closingMs) {
  const end = performance.now() + closingMs
  // What was begun last, a server that is about to listen, say, is open a turn later.
  await nextTurn()
  await nextTurn()
  while (leftOpen(before) !== '' && performance.now() < end) await pause(LOOK)
  return leftOpen(before)
}

async function runFile({ name, path, timeoutMs, graceMs }) {
  tell({ begun: name })
  const before = openResources()
  const test = new Test({ name, timeout: timeoutMs })
  test.on('data', (tap) => tell({ tap }))
  const ended = new Promise((done) => test.once('end', done))
  test.runMain(() => {})
  setFileTest(test)
  try {
    // In the test's scope: what the file throws later fails the test.
    await test.hook.runInAsyncScope(() => import(pathToFileURL(path).href))
  } catch (error) {
    test.threw(error)
  }
  if (!test.ended) test.end()
  await ended
  test.setTimeout(0)
  const { ok, count, plan } = test.results
  // A file without a test is a mistake, unless it says why: `t.plan(0, 'why')`.
  const skip = count > 0 ? undefined : plan.skipReason
  const open = await waitForClosing(before, graceMs)
  return skip === 'no tests found' ? { ok: false, open } : { ok, open, skip }
}

for (let line = nextLine(); line !== undefined; line = nextLine())
  tell({ result: await runFile(JSON.parse(line)) })
process.exit()
