import { readdirSync, realpathSync } from 'node:fs'
import { dirname, join, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * Runs a check if its file is the program: prints each problem, or the summary if there is none.
 *
 * @param url `import.meta.url` of the file
 * @param check takes the package's folder, which may be the first argument; returns `{ problems, summary }`
 */
export function runCheck(url, check) {
  const script = fileURLToPath(url)
  if (process.argv[1] === undefined || realpathSync(process.argv[1]) !== script) return
  const { problems, summary } = check(resolve(process.argv[2] ?? join(dirname(script), '..')))
  for (const problem of problems) console.error(problem)
  if (problems.length > 0) process.exitCode = 1
  else console.log(summary)
}

/** Returns the TypeScript files below a folder, relative to it, with `/` on every system. */
export function typescriptFiles(folder) {
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.split(sep).join('/'))
    .sort()
}
