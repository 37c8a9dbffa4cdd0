-- Changes what allowed requests were charged, once their responses are known. Checks no limit.
--
-- KEYS      of charge 1, one per part, then of charge 2 ...: as in take_mixed.lua
-- ARGV[1]   now, unix ms; 0: this server's clock (tests bring their own)
-- ARGV[2..] per charge: quota: what to charge now on top, or, below 0, what to give back to the windows charged then;
--           unix ms at which it was charged; slot: 0 keep, 1 give back, 2 renew, 3 keep and charge no more than there is
--           room for; unix ms at which it was taken or renewed; number of parts, then per part: number of limits, then the limits as algorithms.lua reads them, and of every
--           calendar limit one more: number of the period that was charged
--
-- Reply     now
-- Expires   as before when nothing was added

local now = ARGV[1] + 0
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end

local nextKey, arg = 1, 2
while arg <= #ARGV do
  local quota, at, slot, slotAt, m = ARGV[arg] + 0, ARGV[arg + 1] + 0, ARGV[arg + 2] + 0, ARGV[arg + 3] + 0, ARGV[arg + 4] + 0
  arg = arg + 5
  for p = 1, m do
    local list
    local key = KEYS[nextKey]
    list, arg = limits(arg + 1, ARGV[arg] + 0, now)
    nextKey = nextKey + 1
    for i = 1, #list do
      if list[i].kind == 'k' then
        list[i].chargedNumber = ARGV[arg] + 0
        arg = arg + 1
      end
    end
    local counts = read(key, list, now)
    local known, given, added = counts[1][1] ~= nil, false, false
    for i = 1, #list do
      local l, s = list[i], counts[i]
      local isSlot = l.kind == 'c'
      local add = isSlot and (slot == 2 and 1 or 0) or (not isSlot and quota or 0)
      if not known then l.does.roll(l, s, now) end
      if isSlot and (slot == 1 or slot == 2) then
        l.does.give(l, s, slotAt, 1)
        given = true
      end
      if add < 0 then
        l.does.give(l, s, at, -add)
        given = true
      elseif add > 0 then
        local ahead = l.does.roll(l, s, now)
        if slot == 3 then add = max(0, min(add, l.does.free(l, s, now + ahead))) end
        l.does.add(l, s, add)
        added = true
      end
    end
    if added then
      write(key, list, counts)
    elseif given and known then
      write(key, list, counts, true)
    end
  end
end

return now
