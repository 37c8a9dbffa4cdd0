import { createLog } from '../../src/telemetry/log.js'

// Run as a process of its own by test/telemetry/log.test.ts: writes its last words to stderr and exits.
const { log, flushSync } = createLog({ level: 'info' })
log.info('first')
log.fatal('last words')
flushSync()
process.exit(3)
