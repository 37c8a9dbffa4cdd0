// Checks the types of everything, and writes the declarations of `src` into `dist`, for users of the package. tsc keeps its results:
// the next run checks only what changed, and what depends on that.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const types = join(root, '.tap/types')
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', '.'], { cwd: root, stdio: 'inherit' })
// tsc does not remove the declarations of a source that is gone.
const hasSource = (file) =>
  !file.endsWith('.d.ts') || existsSync(join(root, relative(types, file).replace(/\.d\.ts$/, '.ts')))
if (status === 0)
  cpSync(join(types, 'src'), join(root, 'dist'), { recursive: true, filter: (file) => hasSource(file) })
process.exitCode = status === 0 ? 0 : 1
