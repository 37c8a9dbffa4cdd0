import { createLog } from '../../../src/telemetry/logs/log.js'

// test/telemetry/logs/log.test.ts runs this as a process of its own: it writes its last words to stderr and exits.
const { log, flushSync } = createLog({ level: 'info' })
log.info('first')
log.fatal('last words')
flushSync()
process.exit(3)
