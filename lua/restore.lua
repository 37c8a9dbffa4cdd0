-- Writes values of a map that every node holds whole as a node knows them, unless somebody has changed the map meanwhile.
-- It is no change of its own: whoever restores tells every node to load anew when all is written.
--
-- KEYS[1]  <map>          hash: key -> value
-- KEYS[2]  <map>:version  number of the latest change
-- KEYS[3]  <map>:ends     sorted set: key by the unix ms at which its value ends
-- ARGV[1]  the number that KEYS[2] must have; 0 when there is none
-- ARGV[2]  the number that it has from now on
-- ARGV[3]  key
-- ARGV[4]  its value; empty: none
-- ARGV[5]  unix ms at which it ends; 0: never; and so on, three for each value, up to 300 values
--
-- Reply    1; 0: the map has another number, and nothing was written

if tonumber(redis.call('GET', KEYS[2]) or '0') ~= tonumber(ARGV[1]) then
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
