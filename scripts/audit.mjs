// `npm run audit`: asks the registry for known holes in the packages of package-lock.json. Exit code 1: there are some. Exit code 0:
// there are none, or the registry did not answer, which the output says. With `--report` the exit code is always 0: `npm test`
// uses it, because a hole that became known overnight is no fault of the change under test.
import { execFile } from 'node:child_process'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Ms. A registry that is out of reach answers nothing for minutes. */
const PATIENCE = 15_000

/**
 * Reads what `npm audit --json` printed.
 *
 * @returns `{ asked, summary, holes }`: whether the registry answered, one line, and a line for each hole
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

/** Resolves with what npm prints; empty if it cannot be run or takes too long. */
function ask() {
  const options = { cwd: root, timeout: PATIENCE, killSignal: 'SIGKILL', maxBuffer: 1 << 26 }
  return new Promise((resolve) => {
    execFile('npm', ['audit', '--json', '--package-lock-only'], options, (_, text) => resolve(text))
  })
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { summary, holes } = readAudit(await ask())
  for (const hole of holes) console.log(hole)
  console.log(summary)
  process.exitCode = holes.length > 0 && !process.argv.includes('--report') ? 1 : 0
}
