// Runs in a process whose server is Valkey, started by valkey.test.ts.
import './redis.test.js'
import './scripts.test.js'
