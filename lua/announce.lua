-- Says that a gateway lives, or that it leaves, and counts those that live.
--
-- KEYS[1]  nodes:{fleet}  sorted set: gateway by the unix ms until which it is believed to live
-- ARGV[1]  gateway
-- ARGV[2]  ms for which it is believed; 0: it leaves
--
-- Reply    how many live
-- Expires  when the last of them is not believed any more

local t = redis.call('TIME')
local now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('ZCARD', KEYS[1])
