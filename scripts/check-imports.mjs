// Enforces the import directions of the design: `node scripts/check-imports.mjs [package folder]`. Type-only imports count, too:
// a direction says what a room may know, not what is left at run time.
import { existsSync, readFileSync, statSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, relative, sep } from 'node:path'
import ts from 'typescript'
import { runCheck, typescriptFiles } from './run-check.mjs'

const BASE = ['common', 'errors', 'shares', 'log-throttle', 'version', 'net']
const CONFIG = [...BASE, 'extension', 'config']
const PARTS = [...CONFIG, 'credentials', 'tier-sources', 'upstream', 'limiter', 'fleet']
const SERVING = [...PARTS, 'telemetry', 'metering']

/**
 * Rooms that a room may import besides itself. `errors.ts`, `shares.ts`, `log-throttle.ts`, `version.ts`, `extension-testing.ts`, `open-admin.ts` and `main.ts` are
 * rooms of one file.
 */
const ROOMS = {
  common: [],
  errors: [],
  shares: ['common'],
  'log-throttle': [],
  version: [],
  net: [],
  extension: BASE,
  config: [...BASE, 'extension'],
  'extension-testing': CONFIG,
  credentials: [...CONFIG, 'tier-sources', 'upstream'],
  'tier-sources': CONFIG,
  upstream: CONFIG,
  limiter: CONFIG,
  fleet: [...CONFIG, 'limiter'],
  telemetry: PARTS,
  metering: [...CONFIG, 'fleet', 'telemetry'],
  gateway: SERVING,
  admin: SERVING,
  'open-admin': [...SERVING, 'gateway', 'admin'],
  main: [...SERVING, 'gateway', 'admin', 'open-admin'],
  embed: [...SERVING, 'gateway', 'main'],
  workers: [...SERVING, 'admin', 'open-admin', 'main'],
  cli: [...SERVING, 'gateway', 'admin', 'open-admin', 'main', 'workers'],
}

/**
 * Parts of a room, from the lowest: each may import those before it. A part is a folder, a file of the room itself, or `.` for
 * its other files. A room that is not listed has files only.
 */
const PARTS_OF = {
  config: ['values', 'schema', 'snapshot', 'check', 'load'],
  limiter: ['algorithms', '.', 'redis', 'open-limiter.ts'],
  upstream: ['.', 'guard', 'http1', 'http2', 'pool'],
  telemetry: ['record', 'logs', 'metrics', 'export', 'traces', 'decisions', 'history', 'top', '.'],
  gateway: [
    ...[
      'exchange',
      'transform',
      'respond',
      'listen',
      'request-lifecycle.ts',
      'extensions',
      'identify',
      'edge',
    ],
    ...['quota', 'forward', 'websocket', 'stages', 'simulate', 'accept.ts', 'app.ts'],
  ],
  admin: ['access', '.', 'routes', 'page.ts', 'auth-hook.ts', 'server.ts'],
  cli: ['.', 'read', 'print', 'client', 'define-command.ts', 'commands', 'run-cli.ts', 'tidegate.ts'],
}

/** The remedy for an import against the direction. */
const MOVE = 'move what both need to the lower of the two, or hand it over as an argument'

/** Stages do not know each other: only the file that runs them in order may import them. */
const STAGES = 'gateway/stages/'
const RUNS_STAGES = /^gateway\/(?:app\.ts$|simulate\/)/

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

  const files = typescriptFiles(src)
  if (files.length === 0) problems.push('src holds no .ts file: there is nothing to check')

  const roomOf = (file) => (file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, ''))

  /** Returns the place of a file's part in the list of its room; undefined if the room has no parts, or none for this file. */
  function partOf(file) {
    const [room, part] = file.split('/')
    const parts = PARTS_OF[room]
    const at = parts?.indexOf(part) ?? -1
    return at >= 0 || part.endsWith('.ts') === false ? at : (parts?.indexOf('.') ?? -1)
  }

  /** Returns the file of src that a specifier means, or undefined, with a problem noted if there is none. */
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
      const allowed = ROOMS[fromRoom]
      if (!allowed.includes(toRoom)) {
        const list = allowed.length === 0 ? 'no other room' : allowed.join(', ')
        problems.push(`${from}: imports ${to}; ${fromRoom} may import ${list}: ${MOVE}`)
      }
    } else if (to.startsWith(STAGES) && !RUNS_STAGES.test(from)) {
      problems.push(`${from}: imports the stage ${to}; only app.ts and simulate/ run stages: ${MOVE}`)
    } else if (PARTS_OF[fromRoom] !== undefined && partOf(to) > partOf(from)) {
      problems.push(
        `${from}: imports ${to}; the parts of ${fromRoom} are, from the lowest, ${PARTS_OF[fromRoom].join(', ')}: ${MOVE}`,
      )
    }
  }

  const imports = new Map()
  for (const file of files) {
    const room = roomOf(file)
    if (ROOMS[room] === undefined) {
      problems.push(`${file}: ${room} is not a room; the rooms are ${Object.keys(ROOMS).join(', ')}`)
      continue
    }
    if (PARTS_OF[room] !== undefined && partOf(file) < 0) {
      problems.push(`${file}: is in no part of ${room}; its parts are ${PARTS_OF[room].join(', ')}`)
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
      if (ROOMS[roomOf(target)] !== undefined) checkDirection(file, target)
    }
    imports.set(file, targets)
  }

  /** Searches depth first; a file met again on the path to itself closes a cycle. Reports each cycle once. */
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

runCheck(import.meta.url, checkImports)
