-- Says that a gateway lives, or that it leaves. Tells it what has changed, and announces what it is about to change. Tells all others
-- how far the announcements are, at most twice a second.
--
-- KEYS[1]  nodes:{gateways}          sorted set: gateway by the unix ms until which it is believed to live. More than a minute
--                                    is believed of none: a server whose clock was ahead wrote it
-- KEYS[2]  nodes:{gateways}:members  sorted set: the same, without gateways of versions before this script
-- KEYS[3]  nodes:{gateways}:status   hash: gateway of KEYS[2] -> its status, JSON
-- KEYS[4]  nodes:{gateways}:changes  sorted set: name by the number of its latest announcement. #sequence has the greatest
--                                    number, #since the unix ms at which this set began, #tick that of the latest message.
--                                    Any client with access to the store may write: a number far in the future would hide
--                                    others, and ends the set, as do far more names than there are
-- KEYS[5]  nodes:{gateways}:layout   layout of the maps that have many slots
-- ARGV[1]  gateway; empty: the caller does not decide, and is not counted
-- ARGV[2]  ms for which it is believed; 0: it leaves
-- ARGV[3]  number up to which the caller knows the announcements; empty: it asks for none
-- ARGV[4]  status; empty: as it was
-- ARGV[5]  channel
-- ARGV[6]  and on: names to announce
--
-- Reply    how many live, how many of them are in KEYS[2], the greatest number, #since, 1 if KEYS[2] did not have the caller, unix
--          ms, the layout (empty: none), then the names announced after ARGV[3]; names that begin with # are not announcements
-- Message  unix ms, how many live, how many of them are in KEYS[2], the greatest number, #since, and the layout, with spaces between.
--          The call that sends it also removes what is not believed. A user without the channel sends none
-- Expires  KEYS[1] half a second after the last gateway is not believed any more, KEYS[2] and KEYS[3] an hour after the last
--          heartbeat; the others never

local t = redis.call('TIME')
local now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
local known = redis.call('ZMSCORE', KEYS[4], '#sequence', '#since', '#tick')
local sequence = tonumber(known[1] or 0)
local tick = tonumber(known[3] or 0)
local leaves = ARGV[2] == '0'
local due = not leaves and (tick > now or now - tick >= 500)
local dead = leaves and { ARGV[1] } or {}
if due then
  for _, range in ipairs({ { '-inf', now }, { '(' .. now + 60000, '+inf' } }) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], range[1], range[2], 'LIMIT', 0, 1000)) do
      dead[#dead + 1] = member
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[1], range[1], range[2])
  end
end
if #dead > 0 then
  redis.call('ZREM', KEYS[2], unpack(dead))
  redis.call('HDEL', KEYS[3], unpack(dead))
end
local added = 0
if leaves then
  redis.call('ZREM', KEYS[1], ARGV[1])
elseif ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
  added = redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
  if ARGV[4] ~= '' then
    redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
  end
end
if sequence > now + 86400000 or redis.call('ZCARD', KEYS[4]) > 5000 then
  redis.call('DEL', KEYS[4])
  sequence, known = 0, {}
end
local since = tonumber(known[2] or now)
if not known[2] then
  redis.call('ZADD', KEYS[4], since, '#since')
end
if #ARGV > 5 then
  for i = 6, #ARGV do
    sequence = math.max(sequence + 1, now)
    redis.call('ZADD', KEYS[4], sequence, ARGV[i])
  end
  redis.call('ZADD', KEYS[4], sequence, '#sequence')
end
local names = {}
if ARGV[3] ~= '' and sequence > tonumber(ARGV[3]) then
  names = redis.call('ZRANGEBYSCORE', KEYS[4], '(' .. ARGV[3], '+inf')
end
local alive = redis.call('ZCOUNT', KEYS[1], '(' .. now, now + 60000)
local members = redis.call('ZCOUNT', KEYS[2], '(' .. now, now + 60000)
local layout = redis.call('GET', KEYS[5]) or ''
if due then
  redis.call('PEXPIRE', KEYS[1], ARGV[2] + 500)
  redis.call('PEXPIRE', KEYS[2], 3600000)
  redis.call('PEXPIRE', KEYS[3], 3600000)
  redis.call('ZADD', KEYS[4], now, '#tick')
  local message = string.format('%.0f %d %d %.0f %.0f ', now, alive, members, sequence, since)
  redis.pcall('PUBLISH', ARGV[5], message .. layout)
end
return {
  alive,
  members,
  sequence,
  since,
  added,
  now,
  layout,
  unpack(names),
}
