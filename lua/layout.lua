-- Writes the layout of the maps that grow with users, unless the store has one of at least as many moves. Any other text that
-- a client has written there is replaced.
--
-- KEYS[1]  nodes:{gateways}:layout  text: number of moves, number of shards, and the other number while keys of it may exist
-- ARGV[1]  layout
--
-- Reply    the layout that is there

local function moves(text)
  local digits = string.match(text, '^(%d+) [16]')
  return digits and #digits < 10 and tonumber(digits) or -1
end
local layout = redis.call('GET', KEYS[1]) or ''
if moves(ARGV[1]) > moves(layout) then
  layout = ARGV[1]
  redis.call('SET', KEYS[1], layout)
end
return layout
