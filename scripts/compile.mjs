// Compiles TypeScript to JavaScript that Node runs. It only removes the types: `npm test` checks them beside the tests. It
// compiles a file again when its source has changed, and removes output whose source is gone.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, posix, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { transform, version } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Output folder of each tree of sources. */
const TREES = { src: 'dist', test: 'dist-test', 'grafana/source': 'dist-grafana' }

/** Names the compiler and this script: output of another one does not count as current. */
const STAMP = `esbuild ${version}\n${readFileSync(fileURLToPath(import.meta.url), 'utf8')}`

/**
 * Compiles `src` to `dist`, and copies the files of the admin server's page. It never empties `dist` first, as a gateway may be
 * running from it. Rejects on a syntax error.
 */
export async function compileSources(folder = root) {
  const isOfPage = (name) => name.startsWith('admin/page/')
  await compileTree(folder, 'src', isOfPage, (text) => text)
}

/** Compiles the tests to `dist-test`, and the sources of the dashboards to `dist-grafana`. Rejects on a syntax error. */
export async function compileTests(folder = root) {
  for (const tree of ['test', 'grafana/source']) await compileTree(folder, tree, () => false, forTests)
}

/** Returns the compiled file of a source, both relative to the root: `test/limiter/key.test.ts` → `dist-test/limiter/key.test.js`. */
export function compiledFile(source) {
  const tree = Object.keys(TREES).find((name) => source.startsWith(`${name}/`))
  if (tree === undefined) throw new Error(`${source} is in none of ${Object.keys(TREES).join(', ')}`)
  return TREES[tree] + source.slice(tree.length).replace(/\.ts$/, '.js')
}

/**
 * Prepares the source of a test for compilation, line by line:
 * - imports lead to the compiled files of other trees;
 * - `import.meta.url` stays that of the source, so that fixtures are found beside it;
 * - each file gets a root test of its own, because many files share a process (see test-worker.mjs).
 */
function forTests(text, source) {
  const folder = posix.dirname(compiledFile(source))
  const own = JSON.stringify(posix.relative(folder, source))
  const fileTest = JSON.stringify(posix.relative(folder, 'scripts/file-test.mjs'))
  const imports = text
    .replace(
      /\b(from |import |import\()(['"`])((?:\.\.\/)+)(src|grafana\/source)\/([^'"`]+)\2/g,
      (_, ...found) => {
        const [keyword, quote, up, tree, name] = found
        return `${keyword}${quote}${up}${TREES[tree]}/${name.replace(/\.ts$/, '.js')}${quote}`
      },
    )
    .replace(
      /^import t(, \{[^}]+\})? from 'tap'$/m,
      (_, types = '') =>
        `import { fileTest } from ${fileTest}; ${types === '' ? '' : `import${types.slice(1)} from 'tap'; `}const t = await fileTest()`,
    )
  return `import.meta.url = new URL(${own}, import.meta.url).href; ${imports}`
}

async function compileTree(base, tree, asIs, prepare) {
  const out = join(base, TREES[tree])
  const stamp = join(out, '.stamp')
  const current = existsSync(stamp) && readFileSync(stamp, 'utf8') === STAMP
  const names = readdirSync(join(base, tree), { recursive: true })
    .map((name) => name.replaceAll(sep, '/'))
    .filter((name) => name.endsWith('.ts') || (asIs(name) && statSync(join(base, tree, name)).isFile()))
  const compile = async (name) => {
    const source = `${tree}/${name}`
    const file = join(base, compiledFile(source))
    const { mtime } = statSync(join(base, source))
    if (current && existsSync(file) && statSync(file).mtime.getTime() === mtime.getTime()) return
    const text = readFileSync(join(base, source), 'utf8')
    mkdirSync(dirname(file), { recursive: true })
    if (asIs(name)) writeFileSync(file, text)
    else {
      const { code, map } = await toJavaScript(
        prepare(text, source),
        source,
        posix.relative(dirname(file), join(base, source)),
      )
      writeFileSync(`${file}.map`, map)
      writeFileSync(file, `${code}//# sourceMappingURL=${posix.basename(file)}.map\n`)
    }
    utimesSync(file, mtime, mtime)
  }
  await Promise.all(names.map(compile))
  removeOrphans(out, new Set(names))
  if (!current) writeFileSync(stamp, STAMP)
}

/** @param path to the source from the compiled file, for its map */
async function toJavaScript(text, source, path) {
  const { code, map } = await transform(text, {
    loader: 'ts',
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    sourcefile: path,
    sourcemap: true,
    sourcesContent: false,
    tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
    logLevel: 'silent',
  }).catch((error) => {
    const [{ text, location }] = error.errors
    throw new Error(`${source}:${location.line}:${location.column + 1}: ${text}`)
  })
  return { code, map }
}

/** Removes output, including declarations, that belongs to none of the sources. */
function removeOrphans(out, sources) {
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name)
    const name = file.slice(out.length + 1).replaceAll(sep, '/')
    const source = name.replace(/(\.d\.ts|\.js|\.js\.map)$/, '.ts')
    if (entry.isFile() && name !== '.stamp' && !sources.has(name) && !sources.has(source)) rmSync(file)
  }
}
