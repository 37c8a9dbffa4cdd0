// `node scripts/build.mjs`: compiles src to dist and removes what no longer has a source. dist is never emptied first,
// so a gateway or a test that runs from it goes on. `--no-check` skips the types where they were just checked.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const dist = join(root, 'dist')
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const flags = process.argv.includes('--no-check') ? ['--noCheck'] : []

const { status } = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json', ...flags], {
  cwd: root,
  stdio: 'inherit',
})
if (status !== 0) process.exit(1)

// The admin server's page is made of files as they are.
cpSync(join(root, 'src/admin/page'), join(dist, 'admin/page'), { recursive: true })
for (const name of readdirSync(dist, { recursive: true })) {
  const source = join(root, 'src', name.replace(/(\.d\.ts|\.js)$/, '.ts'))
  const itself = join(root, 'src', name)
  if (/\.(js|ts|map|css|html)$/.test(name) && !existsSync(source) && !existsSync(itself))
    rmSync(join(dist, name))
}
const bin = join(dist, 'cli/tidegate.js')
if (existsSync(bin)) chmodSync(bin, 0o755)
