// A process of the test run: runs compiled test files one after the other, as descriptor 3 tells it, and reports each on
// descriptor 4. Both carry lines of JSON. It exits at the end of its input.
import { readSync, writeSync } from 'node:fs'
import { resolve } from 'node:path'
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { Test } from 'tap'
import { setFileTest } from './file-test.mjs'

/** Pause between two looks, in ms. */
const LOOK = 20

const tell = (message) => {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`)
  for (let at = 0; at < bytes.length; ) at += writeSync(4, bytes, at)
}

/** Reads the next line of descriptor 3, and blocks until it comes: nothing else may happen meanwhile. */
function nextLine() {
  const bytes = Buffer.alloc(1)
  let line = ''
  while (readSync(3, bytes, 0, 1) === 1) {
    if (bytes[0] === 10) return line
    line += bytes.toString('latin1')
  }
  return undefined
}

/** Counts the resources that keep the process alive, by kind: `{ TCPSocketWrap: 2 }`. */
function openResources() {
  const counts = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

/** Names the kinds of which there are more than before: `TCPSocketWrap (2), Timeout (1)`; empty if none. */
function leftOpen(before) {
  return Object.entries(openResources())
    .map(([kind, count]) => [kind, count - (before[kind] ?? 0)])
    .filter(([, more]) => more > 0)
    .map(([kind, more]) => `${kind} (${more})`)
    .join(', ')
}

/** Resolves with what is still open after the time for closing; usually nothing. */
async function waitForClosing(before, closingMs) {
  const end = performance.now() + closingMs
  // The last thing begun, such as a server that is about to listen, is open a turn later.
  await nextTurn()
  await nextTurn()
  while (leftOpen(before) !== '' && performance.now() < end) await pause(LOOK)
  return leftOpen(before)
}

async function runFile({ name, path, timeoutMs, graceMs }) {
  tell({ begun: name })
  const before = openResources()
  const test = new Test({ name, timeout: timeoutMs })
  // By default tap calls it after the program, which is the same for all files: two at once would remove each other's.
  test.testdirName = resolve('.tap/fixtures', name.replace(/[^\w.]+/g, '-'))
  test.on('data', (tap) => tell({ tap }))
  const ended = new Promise((done) => test.once('end', done))
  test.runMain(() => {})
  setFileTest(test)
  try {
    // In the test's scope: an error that the file throws later fails the test.
    await test.hook.runInAsyncScope(() => import(pathToFileURL(path).href))
  } catch (error) {
    test.threw(error)
  }
  if (!test.ended) test.end()
  await ended
  test.setTimeout(0)
  const { ok, count, plan } = test.results
  // A file without a test is an error, unless it gives a reason: `t.plan(0, 'why')`.
  const skip = count > 0 ? undefined : plan.skipReason
  const open = await waitForClosing(before, graceMs)
  return skip === 'no tests found' ? { ok: false, open } : { ok, open, skip }
}

for (let line = nextLine(); line !== undefined; line = nextLine())
  tell({ result: await runFile(JSON.parse(line)) })
process.exit()
