import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { configHashes } from '../snapshot/hash.js'
import { type LoadOptions, loadConfig } from './load.js'
import type { LoadedInThread, ThreadAnswer, ThreadQuestion } from './thread.js'

/**
 * Size from which a file is read in a separate thread, in bytes: about 300 routes. A thread takes longer to start than
 * a smaller file takes to read.
 */
export const THREAD_BYTES = 16 * 1024

/**
 * Loads a configuration like `loadConfig`, without delaying the requests of a running gateway. A file of 10,000 routes
 * takes half a second to read. The store's answers that arrive meanwhile would all be too late. The memory that reading
 * needed is released with the thread.
 *
 * @param large true if there is more to read than the text, because it names or includes files of that size
 */
export async function loadInThread(
  text: string,
  question: LoadOptions,
  large = false,
): Promise<LoadedInThread> {
  if (text.length < THREAD_BYTES && !large) return loadHere(text, question)
  let answer: ThreadAnswer
  try {
    answer = await ask({ text, ...question })
  } catch {
    // No thread could be started (memory, a limit on processes): loading late is better than not at all.
    return loadHere(text, question)
  }
  for (const object of answer.bare) Object.setPrototypeOf(object, null)
  return answer.loaded
}

function loadHere(text: string, question: LoadOptions): LoadedInThread {
  const loaded = loadConfig(text, question)
  return loaded.ok ? { ...loaded, hashes: configHashes(loaded.config) } : loaded
}

function ask(question: ThreadQuestion): Promise<ThreadAnswer> {
  return new Promise((resolve, reject) => {
    const entry = new URL(`./thread${extname(import.meta.url)}`, import.meta.url)
    // The thread does not need its own environment: the variables that the file may use are in the question.
    const worker = new Worker(entry, { workerData: question, env: {} })
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', () => reject(new Error('the thread has ended without an answer')))
  })
}
