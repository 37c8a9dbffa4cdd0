-- Decides requests under the sliding window counter and charges those that every one of their limits allows. The
-- commonest policies, and so the one script that is written for speed; take_mixed.lua does all others.
--
-- KEYS[i]   counts of decision i: rl:<service>:{<consumer>}:<policy>, in Redis Cluster all of one slot
-- ARGV[1]   deadline, unix ms by this server's clock: a later call decides and charges nothing; 0: none
-- ARGV[2]   now, unix ms; 0: this server's clock (tests bring their own)
-- ARGV[3..] per decision: cost, number m of limits, then m times: amount, window in ms
--           of several equal requests: -cost, their number, then as above
--           of one whose limits are shown even if it is allowed: -cost, 0, then as above
--
-- Reply     now, then per decision four integers, or nothing more when the deadline has passed; of several equal requests
--           how many were allowed, then four for the last allowed, if any, and four for the first denied, if any, which
--           is asked like any other when the rest are charged:
--           verdict: 1 if allowed, + 2 * number of the binding limit (from 0), + 16 * mask of the limits that deny;
--           remaining for cost 1; ms until the binding window ends; ms until this cost could pass (-1: never)
--           and, of a denied one or one whose limits are shown, two more for each limit, before the charge: used in its
--           window * 2^25 + used in the one before; ms until its window ends
--           Behind all decisions: -i for each KEYS[i] that held something else than counts
--
-- Value     one limit: (window number mod 8) * 2^50 + used in it * 2^25 + used in the one before
--           several: per limit 12 bytes, big-endian uint32: window number mod 2^32, used in it, used before
--           of another type or length: counts as none, so that one bad key does not fail the other decisions, and is told
-- Expires   when the window after the stored one ends, of the limit for which that is latest
-- Clock     stepped back, so that the stored window begins up to its own length or HOLD ms from now: decided as at its
--           beginning, so that nothing used is free again; further back: counts as none, so that nobody is locked out.
--           One of a single limit back by exactly 8 windows (of less than 7.5 s: else that is too far) is not noticed
-- Moved     to another server by its remaining time, a key expires a little later or, if that server's clock is behind,
--           earlier than its windows end: the window is the one nearest to the expiry that the value agrees with
--
-- Needs     Redis 7; cost >= 1, amount < 2^25, amount * window < 2^53

local B, U32, HOLD = 33554432, 4294967296, 60000
local call, pcall, pack, unpack = redis.call, redis.pcall, struct.pack, struct.unpack
local floor, max, min = math.floor, math.max, math.min

local deadline, now = ARGV[1] + 0, ARGV[2] + 0
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end
if deadline > 0 and now > deadline then return { now } end

local reply, r, arg = { now }, 1, 3
local windows, used, before, ends, foreign = {}, {}, {}, {}, {}

for k = 1, #KEYS do
  local key, n, several, shows = KEYS[k], ARGV[arg] + 0, nil, false
  if n < 0 then
    n, several, arg = -n, ARGV[arg + 1] + 0, arg + 1
    if several == 0 then several, shows = nil, true end
  end
  local m = ARGV[arg + 1] + 0
  local first = arg + 2
  arg = first + 2 * m

  repeat
    local again = false
    local v = pcall('GET', key)
    local held = v
    if type(v) ~= 'string' or (m > 1 and #v ~= 12 * m) then v = nil end
    local number = v and m == 1 and tonumber(v)
    if number and number % 1 ~= 0 then number = nil end
    if held and not number and (m == 1 or not v) then foreign[#foreign + 1] = -k end
    local same = false

    local mask, least, binding, longest, waiting = 0, nil, 0, 0, 0
    local bindingEnd, waitingEnd = 0, 0

    for i = 1, m do
      local L, W = ARGV[first + 2 * i - 2] + 0, ARGV[first + 2 * i - 1] + 0
      local off = now % W
      local w = (now - off) / W
      local c, p, ahead, passed = 0, 0, 0, nil

      if number then
        p = number % B
        local rest = (number - p) / B
        c = rest % B
        local mod = (rest - c) / B
        if mod == w % 8 then
          passed = 0
        else
          local about = floor(call('PEXPIRETIME', key) / W + 0.5) - 2
          local further = (mod - about) % 8
          passed = w - about - (further > 3 and further - 8 or further)
        end
      elseif v and m > 1 then
        local stored
        stored, c, p = unpack('>I4I4I4', v, 12 * i - 11)
        passed = (w - stored) % U32
        if passed >= U32 / 2 then passed = passed - U32 end
      end

      if passed == 0 then
        same = true
      elseif passed == 1 then
        c, p = 0, c
      elseif passed and passed < 0 and (w - passed) * W - now <= max(W, HOLD) then
        same, w, off, ahead = true, w - passed, 0, (w - passed) * W - now
      else
        c, p = 0, 0
      end
      windows[i], used[i], before[i], ends[i] = w, c, p, ahead + W - off

      local a = (L - c) * W - p * (W - off)
      local free = a > 0 and floor(a / W) or 0
      if not least or free < least then
        least, binding, bindingEnd = free, i - 1, ends[i]
      end
      if n * W > a then
        local wait = -1
        if n <= L then
          local spare = L - n - c
          wait = ahead - off
            + (spare >= 0 and W - floor(spare * W / p) or 2 * W - floor((L - n) * W / c))
        end
        if mask == 0 or (longest ~= -1 and (wait == -1 or wait > longest)) then
          longest, waiting, waitingEnd = wait, i - 1, ends[i]
        end
        mask = mask + 2 ^ (i - 1)
      end
    end

    if mask > 0 then
      if several then reply[r + 1], r = 0, r + 1 end
      reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4] = 2 * waiting + 16 * mask, least, waitingEnd, longest
    else
      local granted = n
      if several then
        local count = min(several, floor(least / n))
        granted, again = n * count, count < several
        reply[r + 1], r = count, r + 1
      end
      if m == 1 and same then
        call('INCRBY', key, granted * B)
      elseif m == 1 then
        call('SET', key, windows[1] % 8 * B * B + granted * B + before[1], 'PXAT', (windows[1] + 2) * ARGV[first + 1])
      else
        local record, expires = '', 0
        for i = 1, m do
          record = record .. pack('>I4I4I4', windows[i] % U32, used[i] + granted, before[i])
          local over = (windows[i] + 2) * ARGV[first + 2 * i - 1]
          if over > expires then expires = over end
        end
        call('SET', key, record, 'PXAT', expires)
      end
      reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4] = 1 + 2 * binding, least - granted, bindingEnd, 0
    end
    r = r + 4
    if mask > 0 or shows then
      for i = 1, m do
        reply[r + 1], reply[r + 2], r = used[i] * B + before[i], ends[i], r + 2
      end
    end
    several = nil
  until not again
end

for i = 1, #foreign do reply[r + i] = foreign[i] end
return reply
