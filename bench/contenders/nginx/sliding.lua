-- The sliding window counter as one script: estimate = before * (1 - elapsed / window) + used. Bounded: one key a consumer,
-- which goes two windows after its last request that passed.
-- KEYS[1] counts · ARGV limit, window in ms · Reply allowed (1 or 0), remaining, ms to the window's end, ms to a retry
local L, W = tonumber(ARGV[1]), tonumber(ARGV[2])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local off = now % W
local w = (now - off) / W
local used, before = 0, 0
local v = redis.call('GET', KEYS[1])
if v then
  local vw, vc, vp = v:match('^(%d+):(%d+):(%d+)$')
  if tonumber(vw) == w then
    used, before = tonumber(vc), tonumber(vp)
  elseif tonumber(vw) == w - 1 then
    before = tonumber(vc)
  end
end
local estimate = before * (1 - off / W) + used
if estimate + 1 <= L then
  redis.call('SET', KEYS[1], string.format('%d:%d:%d', w, used + 1, before), 'PX', 2 * W)
  return { 1, math.floor(L - estimate - 1), W - off, 0 }
end
local wait
if used + 1 > L then
  wait = W - off + (1 - (L - 1) / used) * W
else
  wait = (1 - (L - 1 - used) / before) * W - off
end
return { 0, 0, W - off, math.ceil(wait) }
