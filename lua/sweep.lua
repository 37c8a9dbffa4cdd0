-- Takes values that have ended out of a map that every node holds whole. It is no change: every node knows when they end.
--
-- KEYS[1]  <map>       hash: key -> value
-- KEYS[2]  <map>:ends  sorted set: key by the unix ms at which its value ends
-- ARGV[1]  unix ms
-- ARGV[2]  how many at most, up to 1000
--
-- Reply    how many

local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #ended > 0 then
  redis.call('HDEL', KEYS[1], unpack(ended))
  redis.call('ZREM', KEYS[2], unpack(ended))
end
return #ended
