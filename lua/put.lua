-- Puts values into a map that every node holds, or takes them out, numbers each change, and tells every node.
--
-- KEYS[1]  <map>          hash: key -> value
-- KEYS[2]  <map>:version  number of the latest change; while the store is split or joined: the number and a word
-- KEYS[3]  <map>:log      sorted set: key by the number of its latest change
-- KEYS[4]  <map>:ends     sorted set: key by the unix ms at which its value ends; keys whose value has an end
-- ARGV[1]  channel
-- ARGV[2]  how many changes the log keeps, the newest
-- ARGV[3]  how many values there may be
-- ARGV[4]  present: only where there is a value; absent: only where there is none; empty: in either case
-- ARGV[5]  key
-- ARGV[6]  value; empty: none
-- ARGV[7]  unix ms at which the value ends; 0: never; and so on, three for each change, up to 300 changes
--
-- Reply    the number of the last of these changes; 0: ARGV[4] does not hold for a key; -1: there would be more values than
--          there may be; -2: the map takes no changes at present; with these nothing was written
-- Message  JSON: [number of the first change, key, value, key, value, ...]

local version = redis.call('GET', KEYS[2])
if version and not tonumber(version) then
  return -2
end
local added = 0
for i = 5, #ARGV, 3 do
  local present = redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1
  if (ARGV[4] == 'present' and not present) or (ARGV[4] == 'absent' and present) then
    return 0
  end
  if ARGV[i + 1] ~= '' and not present then
    added = added + 1
  end
end
if added > 0 and redis.call('HLEN', KEYS[1]) + added > tonumber(ARGV[3]) then
  return -1
end
local changes = (#ARGV - 4) / 3
local number = redis.call('INCRBY', KEYS[2], changes) - changes
local message = { number + 1 }
for i = 5, #ARGV, 3 do
  local key, value, ends = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  number = number + 1
  if value == '' then
    redis.call('HDEL', KEYS[1], key)
  else
    redis.call('HSET', KEYS[1], key, value)
  end
  if value == '' or ends == '0' then
    redis.call('ZREM', KEYS[4], key)
  else
    redis.call('ZADD', KEYS[4], ends, key)
  end
  redis.call('ZADD', KEYS[3], number, key)
  message[#message + 1] = key
  message[#message + 1] = value
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - ARGV[2])
redis.call('PUBLISH', ARGV[1], cjson.encode(message))
return number
