// What valkey.test.ts runs in a process whose server is Valkey.
import './redis.test.js'
import './scripts.test.js'
