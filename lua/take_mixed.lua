-- Decides requests whose limits are of any algorithm and any level, and charges those that every one of them allows.
-- What take.lua does for the commonest policies, sliding windows by consumer, faster.
--
-- KEYS      of decision 1, one per part, then of decision 2 ...: rl:<service>:{<whose>}:<part>; in Redis Cluster all of one slot
-- ARGV[1]   deadline, unix ms by this server's clock: a later call decides and charges nothing; 0: none
-- ARGV[2]   now, unix ms; 0: this server's clock (tests bring their own)
-- ARGV[3..] per decision: cost, number of equal requests (1 when they take slots; 0: one whose limits are shown even if it is
--           allowed), number of parts, then per part: number of limits, then the limits as algorithms.lua reads them. Of a concurrency limit 1 is taken, whatever the cost
--
-- Reply     now, then per decision, or nothing more when the deadline has passed: how many of the equal requests were
--           allowed, then four integers as in take.lua for the last one allowed, if any, and for the first denied, if any:
--           verdict: 1 if allowed, + 2 * number of the binding limit (from 0, over all parts), + 16 * mask of the limits
--           that deny; remaining for cost 1; ms until the binding limit resets; ms until this cost could pass (-1: never)
--           and, of a denied one or one whose limits are shown, four more for each limit, before the charge: what was left, ms until it resets, and of a sliding window used
--           in it and used in the one before, else 0
--           Behind all decisions: -i for each KEYS[i] that held something else than counts
--
-- How long until a cost could pass, over limits that change at a moment (`later`: a boost that ends): untilFit is the wait
-- if a limit stays as it is (nil: never), waitOver the same over all that it changes to and not before `from`, and the
-- reply is the first moment at which all limits fit: what fits at one may not at a later one, where an amount became less

local deadline, now = ARGV[1] + 0, ARGV[2] + 0
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end
if deadline > 0 and now > deadline then return { now } end

local reply, foreign, nextKey, arg = { now }, {}, 1, 3

local function told(parts, reply)
  local r = #reply
  for p = 1, #parts do
    local part = parts[p]
    for i = 1, #part.list do
      local l, s = part.list[i], { spread(part.counts[i]) }
      local ahead = l.does.roll(l, s, now)
      local sliding = l.kind == 's'
      reply[r + 1], reply[r + 2] = l.does.free(l, s, now + ahead), ahead + l.does.reset(l, s, now + ahead)
      reply[r + 3], reply[r + 4], r = sliding and s[2] or 0, sliding and s[3] or 0, r + 4
    end
  end
end

local function untilFit(l, stored, cost)
  if cost > l.burst then return nil end
  local s = { spread(stored) }
  local ahead = l.does.roll(l, s, now)
  if cost <= l.does.free(l, s, now + ahead) then return 0 end
  return ahead + l.does.wait(l, s, now + ahead, cost)
end

local function waitOver(l, stored, cost, from)
  local fits, begins = untilFit(l, stored, cost), from
  for i = 1, l.later and #l.later or 0 do
    local ends = l.later[i].at - now
    if fits and max(begins, fits) < ends then return max(begins, fits) end
    fits, begins = untilFit(l.later[i].limit, stored, cost), max(begins, ends)
  end
  return fits and max(begins, fits) or -1
end

local function waitForAll(parts, stored, n)
  local from = 0
  while true do
    local latest, number = from, 0
    for p = 1, #parts do
      local list = parts[p].list
      for i = 1, #list do
        number = number + 1
        local fits = waitOver(list[i], stored[number], list[i].kind == 'c' and 1 or n, from)
        if fits < 0 then return -1 end
        latest = max(latest, fits)
      end
    end
    if latest == from then return from end
    from = latest
  end
end

local function decide(parts, n, count)
  local free, mask, longest, binding, reset, number, least = nil, 0, 0, 0, 0, 0, nil
  local changes = false
  for p = 1, #parts do
    local list = parts[p].list
    for i = 1, #list do changes = changes or list[i].later ~= nil end
  end
  local stored = changes and {}
  for p = 1, #parts do
    local part = parts[p]
    for i = 1, #part.list do
      local l, s = part.list[i], part.counts[i]
      local does, cost = l.does, l.kind == 'c' and 1 or n
      if changes then stored[number + 1] = { spread(s) } end
      local ahead = does.roll(l, s, now)
      local t = now + ahead
      local room = does.free(l, s, t)
      if not free or room < free then free = room end
      if cost > room then
        local wait = cost > l.burst and -1 or ahead + does.wait(l, s, t, cost)
        if l.later then wait = waitOver(l, stored[number + 1], cost, 0) end
        if mask == 0 or (longest ~= -1 and (wait == -1 or wait > longest)) then
          longest, binding, reset = wait, number, ahead + does.reset(l, s, t)
        end
        mask = mask + 2 ^ number
      elseif mask == 0 and (not least or room - cost < least.left) then
        least = { left = room - cost, number = number, l = l, s = s, ahead = ahead, t = t }
      end
      number = number + 1
    end
  end
  if mask > 0 and changes then longest = waitForAll(parts, stored, n) end
  if mask > 0 then return 0, 2 * binding + 16 * mask, max(0, free), reset, longest end
  local granted = min(count, floor(free / n))
  if granted < 1 then granted = 1 end
  for p = 1, #parts do
    local part = parts[p]
    for i = 1, #part.list do
      local l = part.list[i]
      l.does.add(l, part.counts[i], l.kind == 'c' and 1 or n * granted)
    end
    write(part.key, part.list, part.counts)
  end
  local l = least.l
  return granted, 1 + 2 * least.number, least.left - n * (granted - 1), least.ahead + l.does.reset(l, least.s, least.t), 0
end

while arg <= #ARGV do
  local n, count, m = ARGV[arg] + 0, ARGV[arg + 1] + 0, ARGV[arg + 2] + 0
  local parts = {}
  arg = arg + 3
  for p = 1, m do
    local list
    list, arg = limits(arg + 1, ARGV[arg] + 0, now)
    local counts, isForeign = read(KEYS[nextKey], list, now)
    if isForeign then foreign[#foreign + 1] = -nextKey end
    parts[p] = { key = KEYS[nextKey], list = list, counts = counts }
    nextKey = nextKey + 1
  end
  local shown = {}
  if count == 0 then told(parts, shown) end
  local granted, verdict, remaining, reset, wait = decide(parts, n, max(1, count))
  local r = #reply
  reply[r + 1], reply[r + 2], reply[r + 3], reply[r + 4], reply[r + 5] = granted, verdict, remaining, reset, wait
  if #shown > 0 then
    for i = 1, #shown do reply[r + 5 + i] = shown[i] end
  elseif granted == 0 then
    told(parts, reply)
  end
  if granted > 0 and granted < count then
    granted, verdict, remaining, reset, wait = decide(parts, n, 1)
    reply[r + 6], reply[r + 7], reply[r + 8], reply[r + 9] = verdict, remaining, reset, wait
    told(parts, reply)
  end
end

for i = 1, #foreign do reply[#reply + 1] = foreign[i] end
return reply
