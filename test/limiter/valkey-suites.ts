// What valkey.test.ts runs in a process whose server is Valkey.
import './redis/redis.test.js'
import './redis/scripts.test.js'
