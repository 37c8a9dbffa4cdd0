-- Puts one value into a map that every node holds whole, or takes it out, numbers the change, and tells every node.
--
-- KEYS[1]  <map>          hash: key -> value
-- KEYS[2]  <map>:version  number of the latest change
-- KEYS[3]  <map>:log      sorted set: key by the number of its latest change
-- KEYS[4]  <map>:ends     sorted set: key by the unix ms at which its value ends; keys whose value has an end
-- ARGV[1]  key
-- ARGV[2]  value; empty: none
-- ARGV[3]  channel
-- ARGV[4]  how many changes the log keeps, the newest
-- ARGV[5]  unix ms at which the value ends; 0: never
-- ARGV[6]  how many values there may be
-- ARGV[7]  present: only where there is a value; absent: only where there is none; empty: in either case
--
-- Reply    the number of this change; 0: ARGV[7] does not hold; -1: there are as many values as there may be
-- Message  JSON: [number, key, value]

local present = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
if (ARGV[7] == 'present' and not present) or (ARGV[7] == 'absent' and present) then
  return 0
end
if ARGV[2] ~= '' and not present and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[6]) then
  return -1
end
local version = redis.call('INCR', KEYS[2])
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
if ARGV[2] == '' or ARGV[5] == '0' then
  redis.call('ZREM', KEYS[4], ARGV[1])
else
  redis.call('ZADD', KEYS[4], ARGV[5], ARGV[1])
end
redis.call('ZADD', KEYS[3], version, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[4])
redis.call('PUBLISH', ARGV[3], cjson.encode({ version, ARGV[1], ARGV[2] }))
return version
