-- Puts one consumer on a tier, or takes it off, numbers the change, and tells every node.
--
-- KEYS[1]  tier:{assignments}          hash: consumer -> tier
-- KEYS[2]  tier:{assignments}:version  number of the latest change
-- KEYS[3]  tier:{assignments}:log      sorted set: consumer by the number of its latest change
-- ARGV[1]  consumer
-- ARGV[2]  tier; empty: none
-- ARGV[3]  channel
-- ARGV[4]  how many changes the log keeps, the newest
--
-- Reply    the number of this change
-- Message  JSON: [number, consumer, tier]

local version = redis.call('INCR', KEYS[2])
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
redis.call('ZADD', KEYS[3], version, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[4])
redis.call('PUBLISH', ARGV[3], cjson.encode({ version, ARGV[1], ARGV[2] }))
return version
