// Lets Node run the TypeScript of the tests: `node --import ./scripts/typescript-loader.mjs file.ts`, which package.json
// tells the test runner. Types are only taken out (`npm test` checks them first), and what came of a file is kept by the
// hash of its text: the runner's own compiler took most of the time of a whole run, anew for each test file.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire, register } from 'node:module'
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'

// Node runs hooks in a thread of their own, which loads this file a second time.
if (isMainThread) register(import.meta.url)

const cache = fileURLToPath(new URL('../.tap/typescript/', import.meta.url))
mkdirSync(cache, { recursive: true })
const { version } = createRequire(import.meta.url)('typescript/package.json')
let ts

/** `./x.js` in a TypeScript file means `./x.ts` when that is there, as it does to the compiler. */
export async function resolve(specifier, context, next) {
  if (/^\.\.?\/.*\.js$/.test(specifier) && context.parentURL?.endsWith('.ts')) {
    const url = new URL(specifier.replace(/\.js$/, '.ts'), context.parentURL)
    if (existsSync(url)) return { url: url.href, format: 'module', shortCircuit: true }
  }
  return next(specifier, context)
}

export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts') || url.includes('/node_modules/'))
    return next(url, context)
  const file = fileURLToPath(url)
  const text = readFileSync(file, 'utf8')
  const key = createHash('sha256').update(`${version}\n${file}\n${text}`).digest('hex')
  const source = readCached(key) ?? (await strip(file, text, key))
  return { format: 'module', source, shortCircuit: true }
}

function readCached(key) {
  try {
    return readFileSync(`${cache}${key}.js`, 'utf8')
  } catch {
    return undefined
  }
}

async function strip(fileName, text, key) {
  ts ??= (await import('typescript')).default
  const { outputText } = ts.transpileModule(text, {
    fileName,
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2023,
      verbatimModuleSyntax: true,
      inlineSourceMap: true,
    },
  })
  // Whole or not at all: another test file may be reading it.
  const part = `${cache}${key}.${process.pid}`
  writeFileSync(part, outputText)
  renameSync(part, `${cache}${key}.js`)
  return outputText
}
