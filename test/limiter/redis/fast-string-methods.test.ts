// Tests src/limiter/redis/ioredis.ts
import { spawnSync } from 'node:child_process'
import t from 'tap'

for (const entry of ['main', 'embed/limiter', 'cli/run-cli']) {
  t.test(`string methods stay fast after an import of ${entry}`, async (t) => {
    const url = new URL(`../../../dist/${entry}.js`, import.meta.url)
    const script = `await import('${url}'); console.log(%HasFastProperties(String.prototype))`
    const run = spawnSync(process.execPath, ['--allow-natives-syntax', '--input-type=module', '-e', script])
    t.equal(String(run.stdout).trim(), 'true', String(run.stderr))
  })
}
