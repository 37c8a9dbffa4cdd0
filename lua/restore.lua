-- Writes values of a map that every node holds, as a node knows them or as they are in other shards, unless somebody has
-- changed the map meanwhile. It is no change of its own: whoever restores tells every node to load anew when all is written.
--
-- KEYS[1]  <map>          hash: key -> value
-- KEYS[2]  <map>:version  number of the latest change; while the store is split or joined: the number and a word
-- KEYS[3]  <map>:ends     sorted set: key by the unix ms at which its value ends
-- ARGV[1]  what KEYS[2] must be; 0 when there is none
-- ARGV[2]  what it is from now on
-- ARGV[3]  key
-- ARGV[4]  its value; empty: none
-- ARGV[5]  unix ms at which it ends; 0: never; and so on, three for each value, up to 300 values
--
-- Reply    1; 0: KEYS[2] is something else, and nothing was written

if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then
  return 0
end
for i = 3, #ARGV, 3 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  if ARGV[i + 1] == '' or ARGV[i + 2] == '0' then
    redis.call('ZREM', KEYS[3], ARGV[i])
  else
    redis.call('ZADD', KEYS[3], ARGV[i + 2], ARGV[i])
  end
end
if ARGV[2] ~= ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[2])
end
return 1
