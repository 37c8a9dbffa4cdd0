-- Changes what allowed requests were charged, once their responses are known. Checks no limit.
--
-- KEYS      of charge 1, one per part, then of charge 2 ...: as in take_mixed.lua
-- ARGV[1]   now, unix ms; 0: this server's clock (tests bring their own)
-- ARGV[2..] per charge: quota: what to charge now on top, or, below 0, what to give back to the windows charged then;
--           unix ms at which it was charged; slot: 0 keep, 1 give back, 2 renew, 3 keep and charge what is owed;
--           unix ms at which it was taken or renewed; number of parts, then per part: number of limits, then the limits
--           as algorithms.lua reads them, and of every calendar limit one more: number of the period that was charged.
--           With slot 3 then per limit: number of counts, and these as algorithms.lua lays them out, whole numbers of
--           windows unlike there: what was charged elsewhere. Each window is charged its own, as far as there is room
--
-- Reply     now, then -i for each KEYS[i] that held something else than counts
-- Expires   as before when nothing was added

local now = ARGV[1] + 0
if now == 0 then
  local t = call('TIME')
  now = t[1] * 1000 + (t[2] - t[2] % 1000) / 1000
end

local nextKey, arg, reply = 1, 2, { now }
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
    local owed = {}
    for i = 1, slot == 3 and #list or 0 do
      local o, n = {}, ARGV[arg] + 0
      for c = 1, n do o[c] = ARGV[arg + c] + 0 end
      owed[i], arg = o, arg + 1 + n
    end
    local counts, isForeign = read(key, list, now)
    if isForeign then reply[#reply + 1] = 1 - nextKey end
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
        l.does.roll(l, s, now)
        l.does.add(l, s, add)
        added = true
      end
      local o = owed[i]
      if o and o[1] then
        local t = now + l.does.roll(l, s, now)
        l.does.roll(l, o, t)
        local unit = l.kind == 'b' and l.window or 1
        for c = 2, #o do
          s[c] = s[c] + min(o[c], max(0, l.does.free(l, s, t)) * unit)
        end
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

return reply
