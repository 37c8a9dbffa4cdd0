// `npm run audit`: asks the registry for known holes in the packages of package-lock.json. Exit code 0: it knows of none, or
// could not be asked, which is said; 1: it knows of some. `--report` says the same and always exits with 0: `npm test` does
// so, since a hole that became known overnight is no fault of the change that is being tested.
import { spawn } from 'node:child_process'
import { fileURLToPath, pathToFileURL } from 'node:url'

/** Ms. A registry that is out of reach answers nothing for minutes. */
const PATIENCE = 15_000

/**
 * What `npm audit --json` printed, in a line, and the holes as lines of their own.
 *
 * @returns `{ asked, summary, holes }`: `asked` is whether there was an answer at all
 */
export function readAudit(text) {
  let report
  try {
    report = JSON.parse(text)
  } catch {
    return { asked: false, summary: 'not asked: npm audit printed nothing that can be read', holes: [] }
  }
  const counts = report?.metadata?.vulnerabilities
  if (counts === undefined) {
    const why = report?.message ?? report?.error?.summary ?? 'no reason was given'
    return {
      asked: false,
      summary: `not asked: the registry gave no answer (${why.split('\n', 1)[0]})`,
      holes: [],
    }
  }
  const holes = Object.values(report.vulnerabilities ?? {}).map(
    ({ name, severity, range, via = [], fixAvailable }) => {
      const titles = via.flatMap((one) => (typeof one === 'string' ? [] : [`${one.title} (${one.url})`]))
      const fix = fixAvailable ? 'npm audit fix has a version without' : 'there is no version without yet'
      return `${name} ${range}: ${severity}; ${titles.join('; ') || `through ${via.join(', ')}`}; ${fix}`
    },
  )
  const packages = report.metadata.dependencies?.total ?? 'all'
  const summary =
    holes.length === 0
      ? `no known hole in ${packages} packages`
      : `known holes in ${holes.length} of ${packages} packages`
  return { asked: true, summary, holes }
}

function ask() {
  return new Promise((resolve) => {
    const cwd = fileURLToPath(new URL('..', import.meta.url))
    const child = spawn('npm', ['audit', '--json', '--package-lock-only'], {
      cwd,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), PATIENCE)
    let text = ''
    child.stdout.on('data', (data) => {
      text += data
    })
    child.on('error', () => resolve(''))
    child.on('close', () => {
      clearTimeout(timer)
      resolve(text)
    })
  })
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { summary, holes } = readAudit(await ask())
  for (const hole of holes) console.log(hole)
  console.log(summary)
  process.exitCode = holes.length > 0 && !process.argv.includes('--report') ? 1 : 0
}
