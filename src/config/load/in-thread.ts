import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Config } from '../schema/schema.js'
import { type ConfigHashes, configHashes } from '../snapshot/hash.js'
import { type ConfigError, loadConfig } from './load.js'
import type { ThreadAnswer, ThreadQuestion } from './thread.js'

export type LoadedApart =
  | {
      readonly ok: true
      readonly config: Config
      readonly hashes: ConfigHashes
      readonly warnings: readonly ConfigError[]
    }
  | { readonly ok: false; readonly errors: readonly ConfigError[]; readonly warnings: readonly ConfigError[] }

/**
 * Bytes of a file that is read in a thread of its own: about 300 routes. Smaller ones take less time to read than a
 * thread takes to start.
 */
export const APART = 16 * 1024

/**
 * As `loadConfig`, with the requests of a running gateway in mind: a file of 10,000 routes takes half a second to read, and
 * the store's answers that come meanwhile would all be too late. What the reading needed of memory goes with the thread.
 *
 * @param large whether there is more to read than the text: it names files as long as that
 */
export async function loadApart(
  text: string,
  question: Omit<ThreadQuestion, 'text'>,
  large = false,
): Promise<LoadedApart> {
  if (text.length < APART && !large) return loadHere(text, question)
  let answer: ThreadAnswer
  try {
    answer = await ask({ text, ...question })
  } catch {
    // No thread is to be had (memory, a limit on processes): late is better than never.
    return loadHere(text, question)
  }
  if ('errors' in answer) return { ok: false, ...answer }
  for (const object of answer.bare) Object.setPrototypeOf(object, null)
  const { config, hashes, warnings } = answer
  return { ok: true, config, hashes, warnings }
}

function loadHere(text: string, question: Omit<ThreadQuestion, 'text'>): LoadedApart {
  const loaded = loadConfig(text, question)
  return loaded.ok ? { ...loaded, hashes: configHashes(loaded.config) } : loaded
}

function ask(question: ThreadQuestion): Promise<ThreadAnswer> {
  return new Promise((resolve, reject) => {
    const entry = new URL(`./thread${extname(import.meta.url)}`, import.meta.url)
    // Of its own environment it needs nothing: what the file may use is in the question.
    const worker = new Worker(entry, { workerData: question, env: {} })
    worker.once('message', resolve)
    worker.once('error', reject)
    worker.once('exit', () => reject(new Error('the thread has ended without an answer')))
  })
}
