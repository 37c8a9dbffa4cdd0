-- Reads what a consumer has used, with the clock that it must be read by. Charges nothing.
--
-- KEYS[1]  counts: rl:<service>:{<consumer>}:<policy>
-- ARGV[1]  now, unix ms; 0: this server's clock (tests bring their own)
--
-- Reply    now, unix ms by this server's clock; the value as take.lua stores it, or nil; unix ms of its expiry.
--          A key of another type counts as none, as it does there

local now = ARGV[1] + 0
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end
local value = redis.pcall('GET', KEYS[1])
return { now, type(value) == 'string' and value, redis.call('PEXPIRETIME', KEYS[1]) }
