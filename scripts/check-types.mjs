// Checks the types of everything, and puts the declarations of `src` into `dist`, for those who use the package. What it found is kept:
// the next time only what changed, and what depends on that, is checked.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const types = join(root, '.tap/types')
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', '.'], { cwd: root, stdio: 'inherit' })
// What was written for a source that is gone by now is still there.
const hasSource = (file) =>
  !file.endsWith('.d.ts') || existsSync(join(root, relative(types, file).replace(/\.d\.ts$/, '.ts')))
if (status === 0)
  cpSync(join(types, 'src'), join(root, 'dist'), { recursive: true, filter: (file) => hasSource(file) })
process.exitCode = status === 0 ? 0 : 1
