import { createAccessLog } from '../../../src/telemetry/logs/access-log.js'
import { exampleRecord, exampleSnapshot } from './snapshot.js'

// test/telemetry/logs/access-log.test.ts runs this as a process of its own: it logs to a stdout that is never read, or was closed.
const lines = Number(process.argv[2])
const log = createAccessLog({ destination: 'stdout' })
const record = exampleRecord(exampleSnapshot())
let slowest = 0
for (let i = 0; i < lines; i++) {
  const began = performance.now()
  log.write(record)
  slowest = Math.max(slowest, performance.now() - began)
  if (i % 500 === 0) await new Promise(setImmediate)
}
await log.flush(300)
const { rss } = process.memoryUsage()
process.stderr.write(JSON.stringify({ dropped: log.dropped(), slowest, rss }), () => process.exit(0))
