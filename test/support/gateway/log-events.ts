import { createLog } from '../../../src/telemetry/logs/log.js'

// Run as a process of its own by test/telemetry/logs/log.test.ts: writes its last words to stderr and exits.
const { log, flushSync } = createLog({ level: 'info' })
log.info('first')
log.fatal('last words')
flushSync()
process.exit(3)
