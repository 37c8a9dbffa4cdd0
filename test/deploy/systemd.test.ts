import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { isOnPath } from '../support/redis/redis.js'

const UNIT = readFileSync(new URL('../../deploy/systemd/tidegate.service', import.meta.url), 'utf8')
const skip = isOnPath('systemd-analyze') ? false : 'no systemd-analyze; install systemd'

function analyze(...args: string[]) {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['--no-pager', ...args], {
    encoding: 'utf8',
  })
  return { status, output: stdout + stderr }
}

t.test('systemd finds no fault in the unit', { skip }, async (t) => {
  // The command is not installed here, and verify only asks whether it exists.
  const folder = t.testdir({
    'tidegate.service': UNIT.replaceAll('/usr/local/bin/tidegate', process.execPath),
  })
  t.strictSame(analyze('verify', join(folder, 'tidegate.service')), { status: 0, output: '' })
})

t.test('systemd rates the exposure of the unit below 2 of 10', { skip }, async (t) => {
  const folder = t.testdir({ 'tidegate.service': UNIT })
  const { status, output } = analyze(
    'security',
    '--offline=true',
    '--threshold=20',
    join(folder, 'tidegate.service'),
  )
  t.equal(status, 0, output)
  t.match(output, /Overall exposure level for tidegate\.service: [01]\.\d/)
})
