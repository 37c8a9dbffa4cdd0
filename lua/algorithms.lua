-- How counts are kept and read, by algorithm. Not a script: take_mixed.lua and settle.lua begin with this text.
--
-- Arguments  per limit: kind, amount, window in ms, and for some kinds more
--            s sliding   x strict   f fixed   c concurrency
--            b token bucket: burst
--            k calendar: number and start of the present period, number and start of the next, end of the next
--            a capital letter: its amount changes by itself. Behind all that: how often, then each time: unix ms, amount, burst
-- Value      a key of one sliding limit: as take.lua has it; else per limit, in order, big-endian:
--            s  uint32 number of the window mod 2^32, used in it, used in the one before
--            f  uint32 number of the window mod 2^32, used in it
--            k  uint32 number of the period, used in it
--            x  uint32 number of the sub-bucket mod 2^32, used in it, used in each of the 16 before
--            c  the same; a slot is a charge of 1 that is given back, or lapses
--            b  double unix ms of the latest charge, double debt in tokens * window
--            of another type or length: counts as none, so that one bad key does not fail other decisions, and is told
-- Expires    when no limit's counts matter any more
-- Clock      stepped back, so that what is stored begins up to one window or HOLD ms from now: decided as at its
--            beginning, so that nothing used is free again; further back: counts as none, so that nobody is locked out
--
-- Every kind has the functions of src/limiter/algorithms/, where their reasons are told: l is a limit, s its counts, t
-- the time they are read at. A kind is made when it is first needed, because a function costs its making in every call.

local spread = unpack
local call, pcall, pack, unpack = redis.call, redis.pcall, struct.pack, struct.unpack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local HOLD, U32, B, MOST, PARTS, EXACT = 60000, 4294967296, 33554432, 33554431, 16, 9007199254740991

local function held(ahead, window)
  return ahead > 0 and ahead <= max(window, HOLD)
end

-- The number that is meant by one stored mod 2^32: the nearest to the present one.
local function whole(stored, present)
  local passed = (present - stored) % U32
  if passed >= U32 / 2 then passed = passed - U32 end
  return present - passed
end

local kinds = {}

function kinds.s()
  return {
    format = '>I4I4I4',
    read = function(l, s, value, at, now)
      local number
      number, s[2], s[3] = unpack('>I4I4I4', value, at)
      s[1] = whole(number, floor(now / l.window))
    end,
    write = function(s) return pack('>I4I4I4', s[1] % U32, s[2], s[3]) end,
    roll = function(l, s, now)
      local window = floor(now / l.window)
      local passed = s[1] and window - s[1] or 2
      if passed == 0 then return 0 end
      if passed < 0 and held(s[1] * l.window - now, l.window) then return s[1] * l.window - now end
      s[1], s[2], s[3] = window, 0, passed == 1 and s[2] or 0
      return 0
    end,
    free = function(l, s, t)
      return floor(((l.amount - s[2]) * l.window - s[3] * (l.window - t % l.window)) / l.window)
    end,
    wait = function(l, s, t, n)
      local spare = l.amount - n - s[2]
      if spare >= 0 then return l.window - floor(spare * l.window / s[3]) - t % l.window end
      return 2 * l.window - floor((l.amount - n) * l.window / s[2]) - t % l.window
    end,
    reset = function(l, s, t) return l.window - t % l.window end,
    add = function(l, s, n) s[2] = min(MOST, s[2] + n) end,
    give = function(l, s, at, n)
      local passed = s[1] - floor(at / l.window)
      if passed == 0 or passed == 1 then s[2 + passed] = max(0, s[2 + passed] - n) end
    end,
    expires = function(l, s) return (s[1] + 2) * l.window end,
  }
end

function kinds.f()
  return {
    format = '>I4I4',
    read = function(l, s, value, at, now)
      local number
      number, s[2] = unpack('>I4I4', value, at)
      s[1] = whole(number, floor(now / l.window))
    end,
    write = function(s) return pack('>I4I4', s[1] % U32, s[2]) end,
    roll = function(l, s, now)
      local window = floor(now / l.window)
      if s[1] == window then return 0 end
      if s[1] and held(s[1] * l.window - now, l.window) then return s[1] * l.window - now end
      s[1], s[2] = window, 0
      return 0
    end,
    free = function(l, s) return l.amount - s[2] end,
    wait = function(l, s, t) return l.window - t % l.window end,
    reset = function(l, s, t) return l.window - t % l.window end,
    add = function(l, s, n) s[2] = min(MOST, s[2] + n) end,
    give = function(l, s, at, n)
      if s[1] == floor(at / l.window) then s[2] = max(0, s[2] - n) end
    end,
    expires = function(l, s) return (s[1] + 1) * l.window end,
  }
end

function kinds.k()
  local function stop(l, s)
    if s[1] < l.number then return l.start end
    return s[1] == l.nextNumber and l.nextEnd or l.nextStart
  end
  return {
    format = '>I4I4',
    read = function(l, s, value, at) s[1], s[2] = unpack('>I4I4', value, at) end,
    write = function(s) return pack('>I4I4', s[1], s[2]) end,
    roll = function(l, s, now)
      -- Whoever called may be a little behind or ahead of this clock.
      local number = now < l.nextStart and l.number or l.nextNumber
      if s[1] == l.nextNumber then return max(0, l.nextStart - now) end
      if s[1] ~= number then s[1], s[2] = number, 0 end
      return number == l.number and max(0, l.start - now) or 0
    end,
    free = function(l, s) return l.amount - s[2] end,
    wait = function(l, s, t) return stop(l, s) - t end,
    reset = function(l, s, t) return stop(l, s) - t end,
    add = function(l, s, n) s[2] = min(MOST, s[2] + n) end,
    give = function(l, s, at, n)
      if s[1] == l.chargedNumber then s[2] = max(0, s[2] - n) end
    end,
    expires = stop,
  }
end

function kinds.x()
  local FORMAT = '>' .. string.rep('I4', 2 + PARTS)
  local function shape(l)
    local width = ceil(l.window / PARTS)
    return width, ceil(l.window / width)
  end
  local function free(l, s)
    local used = 0
    for age = 0, PARTS do used = used + s[2 + age] end
    return l.amount - used
  end
  local function lapses(l, s, age)
    local width, reach = shape(l)
    return (s[1] - age + reach + 1) * width
  end
  return {
    format = FORMAT,
    read = function(l, s, value, at, now)
      local v = { unpack(FORMAT, value, at) }
      for i = 2, 2 + PARTS do s[i] = v[i] end
      s[1] = whole(v[1], floor(now / shape(l)))
    end,
    write = function(s)
      return pack(FORMAT, s[1] % U32, spread(s, 2, 2 + PARTS))
    end,
    roll = function(l, s, now)
      local width, reach = shape(l)
      local bucket = floor(now / width)
      local passed = s[1] and bucket - s[1] or PARTS + 1
      if passed == 0 then return 0 end
      if passed < 0 and held(s[1] * width - now, l.window) then return s[1] * width - now end
      for age = PARTS, 0, -1 do
        local before = age - passed
        s[2 + age] = passed > 0 and before >= 0 and age <= reach and s[2 + before] or 0
      end
      s[1] = bucket
      return 0
    end,
    free = free,
    wait = function(l, s, t, n)
      local width, reach = shape(l)
      local missing, age = n - free(l, s), reach
      while age > 0 do
        missing = missing - s[2 + age]
        if missing <= 0 then break end
        age = age - 1
      end
      return lapses(l, s, age) - t
    end,
    reset = function(l, s, t) return lapses(l, s, 0) - t end,
    add = function(l, s, n) s[2] = min(MOST, s[2] + n) end,
    give = function(l, s, at, n)
      local width, reach = shape(l)
      local age = s[1] - floor(at / width)
      if age >= 0 and age <= reach then s[2 + age] = max(0, s[2 + age] - n) end
    end,
    expires = function(l, s) return lapses(l, s, 0) end,
  }
end

kinds.c = kinds.x

function kinds.b()
  return {
    format = '>dd',
    read = function(l, s, value, at) s[1], s[2] = unpack('>dd', value, at) end,
    write = function(s) return pack('>dd', s[1], s[2]) end,
    roll = function(l, s, now)
      local at = s[1]
      if not at or (at > now and not held(at - now, l.window)) then
        s[1], s[2] = now, 0
        return 0
      end
      if at > now then return at - now end
      s[1], s[2] = now, max(0, s[2] - (now - at) * l.amount)
      return 0
    end,
    free = function(l, s) return floor((l.burst * l.window - s[2]) / l.window) end,
    wait = function(l, s, t, n) return ceil((s[2] - (l.burst - n) * l.window) / l.amount) end,
    reset = function(l, s) return ceil(s[2] / l.amount) end,
    add = function(l, s, n) s[2] = min(EXACT, s[2] + n * l.window) end,
    give = function(l, s, at, n) s[2] = max(0, s[2] - n * l.window) end,
    expires = function(l, s) return s[1] + ceil(s[2] / (l.slowest or l.amount)) end,
  }
end

local made = {}

-- The limit with another amount.
local function changed(l, amount, burst)
  local c = {}
  for k, v in pairs(l) do c[k] = v end
  c.amount, c.burst = amount, burst
  return c
end

-- Reads m limits from the arguments, starting at the given one, as they are at `now`. Returns them and the number of the next
-- argument. Of one whose amount is still to change `later` has what it changes to, and when, and `slowest` its least amount.
local function limits(arg, m, now)
  local list = {}
  for i = 1, m do
    local changes = ARGV[arg] < 'a'
    local kind = changes and string.lower(ARGV[arg]) or ARGV[arg]
    local l = { kind = kind, amount = ARGV[arg + 1] + 0, window = ARGV[arg + 2] + 0 }
    l.burst = l.amount
    arg = arg + 3
    if kind == 'b' then
      l.burst = ARGV[arg] + 0
      arg = arg + 1
    elseif kind == 'k' then
      l.number, l.start, l.nextNumber = ARGV[arg] + 0, ARGV[arg + 1] + 0, ARGV[arg + 2] + 0
      l.nextStart, l.nextEnd = ARGV[arg + 3] + 0, ARGV[arg + 4] + 0
      arg = arg + 5
    end
    if not made[kind] then made[kind] = kinds[kind]() end
    l.does = made[kind]
    if changes then
      local later, least, present = {}, l.amount, l
      for c = 1, ARGV[arg] do
        local at, amount = ARGV[arg + 1] + 0, ARGV[arg + 2] + 0
        local one = changed(l, amount, ARGV[arg + 3] + 0)
        least = min(least, amount)
        if at <= now then present = one else later[#later + 1] = { at = at, limit = one } end
        arg = arg + 3
      end
      arg = arg + 1
      l = present
      l.slowest = least
      if #later > 0 then l.later = later end
    end
    list[i] = l
  end
  return list, arg
end

-- The counts of every limit of a key as they are stored; empty when there are none. And whether it holds something else.
local function read(key, list, now)
  local counts = {}
  for i = 1, #list do counts[i] = {} end
  local value = pcall('GET', key)
  if type(value) ~= 'string' then return counts, value ~= false end
  if #list == 1 and list[1].kind == 's' then
    local number = tonumber(value)
    local counted = number and number % 1 == 0
    if counted then
      local rest = (number - number % B) / B
      local about = floor(call('PEXPIRETIME', key) / list[1].window + 0.5) - 2
      local further = (floor(rest / B) - about) % 8
      counts[1] = { about + (further > 3 and further - 8 or further), rest % B, number % B }
    end
    return counts, not counted
  end
  local size = 0
  for i = 1, #list do size = size + struct.size(list[i].does.format) end
  if #value ~= size then return counts, true end
  local at = 1
  for i = 1, #list do
    list[i].does.read(list[i], counts[i], value, at, now)
    at = at + struct.size(list[i].does.format)
  end
  return counts, false
end

-- `keep` the expiry when nothing was added: what is given back does not make anything matter for longer.
local function write(key, list, counts, keep)
  local value
  if #list == 1 and list[1].kind == 's' then
    local s = counts[1]
    value = s[1] % 8 * B * B + s[2] * B + s[3]
  else
    value = ''
    for i = 1, #list do value = value .. list[i].does.write(counts[i]) end
  end
  if keep then
    call('SET', key, value, 'KEEPTTL')
  else
    local expires = 0
    for i = 1, #list do expires = max(expires, list[i].does.expires(list[i], counts[i])) end
    call('SET', key, value, 'PXAT', expires)
  end
end
