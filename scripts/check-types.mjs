// Checks the types of everything, and puts the declarations of `src` into `dist`, for those who use the package. What it found is kept:
// the next time only what changed, and what depends on that, is checked.
import { spawnSync } from 'node:child_process'
import { cpSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const { status } = spawnSync(process.execPath, [tsc, '-p', '.'], { cwd: root, stdio: 'inherit' })
if (status === 0) cpSync(join(root, '.tap/types/src'), join(root, 'dist'), { recursive: true })
process.exitCode = status === 0 ? 0 : 1
