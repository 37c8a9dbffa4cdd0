// Holds the import directions of the design: `node scripts/check-imports.mjs [package folder]`.
// Type-only imports count: a direction is about who has to know whom, not about what is left at run time.
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/** Which rooms a room may import besides itself. `src/errors.ts`, `src/shares.ts` and `src/main.ts` are rooms of one file. */
const MAY_IMPORT = {
  errors: [],
  shares: [],
  config: ['errors', 'shares'],
  credentials: ['errors', 'shares', 'config'],
  limiter: ['errors', 'shares', 'config'],
  plans: ['errors', 'shares', 'config'],
  upstream: ['errors', 'shares', 'config'],
  telemetry: ['errors', 'shares', 'config', 'credentials', 'limiter', 'plans', 'upstream'],
  gateway: ['errors', 'shares', 'config', 'credentials', 'limiter', 'plans', 'upstream', 'telemetry'],
  admin: ['errors', 'shares', 'config', 'credentials', 'limiter', 'plans', 'upstream', 'telemetry'],
  main: [
    'errors',
    'shares',
    'config',
    'credentials',
    'limiter',
    'plans',
    'upstream',
    'telemetry',
    'gateway',
    'admin',
  ],
  workers: [
    'errors',
    'shares',
    'config',
    'credentials',
    'limiter',
    'plans',
    'upstream',
    'telemetry',
    'admin',
    'main',
  ],
  cli: [
    'errors',
    'shares',
    'config',
    'credentials',
    'limiter',
    'plans',
    'upstream',
    'telemetry',
    'gateway',
    'admin',
    'main',
    'workers',
  ],
}

/** Known to nobody in their room but app.ts, which lists them in their order, explain.ts, which runs them over a request that is not sent, and plan.ts, which does over those of a log. */
const STAGES = [
  'edge',
  'route',
  'answer',
  'consumer',
  'authorize',
  'tier',
  'service',
  'admit',
  'tunnel-place',
  'quota',
  'forward',
  'upgrade',
  'record',
]
const LISTS = new Set(['gateway/app.ts', 'gateway/explain.ts', 'gateway/plan.ts'])

/**
 * Checks a package's `src`.
 *
 * @param root folder with the package's package.json
 * @returns `{ problems, summary }`: a line for each import that breaks a rule, and what was read
 */
export function checkImports(root) {
  const src = join(root, 'src')
  const { dependencies, optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const packages = Object.keys({ ...dependencies, ...optionalDependencies })
  const problems = []

  const files = readdirSync(src, { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.split(sep).join('/'))
    .sort()

  if (files.length === 0) problems.push('src holds no .ts file: there is nothing to check')

  const roomOf = (file) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, ''))
  const stageOf = (file) => STAGES.find((stage) => file === `gateway/${stage}.ts`)

  /** The file of src that a specifier means, or undefined with a problem noted when it means none. */
  function resolveImport(file, specifier) {
    const target = join(dirname(join(src, file)), specifier)
    const source = target.replace(/\.js$/, '.ts')
    const inside = relative(src, source).split(sep).join('/')
    if (inside.startsWith('../')) {
      problems.push(
        `${file}: imports ${specifier}, which is outside of src; read it as a file, or move it in`,
      )
      return undefined
    }
    if (!existsSync(source) || !statSync(source).isFile()) {
      problems.push(`${file}: imports ${specifier}, and src/${inside} does not exist`)
      return undefined
    }
    return inside
  }

  function checkPackage(file, specifier) {
    const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
    if (specifier.startsWith('node:') || packages.includes(name)) return
    problems.push(
      builtinModules.includes(name)
        ? `${file}: imports ${specifier}; write node:${specifier}`
        : `${file}: imports ${name}, which is not in the dependencies of package.json: it would be missing when installed`,
    )
  }

  function checkDirection(from, to) {
    const [fromRoom, toRoom] = [roomOf(from), roomOf(to)]
    if (fromRoom !== toRoom) {
      const allowed = MAY_IMPORT[fromRoom]
      if (!allowed.includes(toRoom)) {
        const list = allowed.length === 0 ? 'no other room' : allowed.join(', ')
        problems.push(`${from}: imports ${to}; ${fromRoom} may import ${list}`)
      }
    } else if (fromRoom === 'gateway' && stageOf(to) !== undefined && !LISTS.has(from)) {
      problems.push(
        `${from}: imports the stage ${to}; only gateway/app.ts does, move what is shared to a file of its own`,
      )
    }
  }

  const imports = new Map()
  for (const file of files) {
    if (MAY_IMPORT[roomOf(file)] === undefined) {
      problems.push(
        `${file}: ${roomOf(file)} is not a room; the rooms are ${Object.keys(MAY_IMPORT).join(', ')}`,
      )
      continue
    }
    const targets = new Set()
    for (const { fileName } of ts.preProcessFile(readFileSync(join(src, file), 'utf8'), true, true)
      .importedFiles) {
      if (!fileName.startsWith('.')) {
        checkPackage(file, fileName)
        continue
      }
      const target = resolveImport(file, fileName)
      if (target === undefined) continue
      targets.add(target)
      if (MAY_IMPORT[roomOf(target)] !== undefined) checkDirection(file, target)
    }
    imports.set(file, targets)
  }

  /** Depth first; a file met again on the path to itself closes a cycle. Each cycle is told once. */
  const done = new Set()
  function visit(file, path) {
    const start = path.indexOf(file)
    if (start >= 0) {
      problems.push(`cycle: ${[...path.slice(start), file].join(' -> ')}`)
      return
    }
    if (done.has(file)) return
    for (const target of imports.get(file) ?? []) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of files) visit(file, [])

  const count = [...imports.values()].reduce((sum, targets) => sum + targets.size, 0)
  const summary = `${files.length} files, ${count} imports, all in the right direction, no cycles`
  return { problems, summary }
}

const script = fileURLToPath(import.meta.url)
if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === script) {
  const { problems, summary } = checkImports(resolve(process.argv[2] ?? join(dirname(script), '..')))
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
  else console.log(summary)
}
