-- Notes when keys of a map were used last. What is no key of it any more is not noted.
--
-- KEYS[1]  <map>       hash: key -> value
-- KEYS[2]  <map>:used  sorted set: key by the unix minute at which it was used
-- ARGV[1]  unix minute
-- ARGV[2]  unix minute up to which nobody wants to know any more
-- ARGV[3]  key; and so on, up to 1000
--
-- Reply    how many of them are keys of the map

local known = 0
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
    redis.call('ZADD', KEYS[2], 'GT', ARGV[1], ARGV[i])
    known = known + 1
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[2])
return known
