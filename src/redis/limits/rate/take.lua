-- Lets calls through one bucket, in order, as far as its permits go.
--
-- A generic cell rate algorithm: `full` is when the bucket is full again; taking permits moves
-- it on by what they cost in time. Times are microseconds of the server's clock `now`, plus a
-- fraction in parts of `unit`: whole numbers below 2^53, which Lua's doubles hold exactly.
--
-- KEYS: the bucket, a hash. Its field `t` is "full fraction unit at"; a field `w<process>` is
-- the claim of a process whose first caller waits: "since until cost fraction unit".
-- ARGV: process, unit, capacity, its fraction, grace of a claim; then for each call what it
-- costs, the fraction of that, and how long it would wait.
-- Answers: now, 1 if the last of these waits and has a claim, then for each call 0 if it is let
-- through, or in how many microseconds it could be. What is behind one that waits is not asked.
local key, me, unit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local capacity, capacity_part = tonumber(ARGV[3]), tonumber(ARGV[4])
local grace = tonumber(ARGV[5])

local function plus(us, part, more, more_part)
  us, part = us + more, part + more_part
  if part >= unit then
    return us + 1, part - unit
  end
  return us, part
end

-- A fraction of another unit belongs to a limiter with another rate: the next whole one.
local function read(us, part, theirs)
  if theirs ~= unit and part > 0 then
    return us + 1, 0
  end
  return us, part
end

local function whole(...)
  return string.format(string.rep('%.0f ', select('#', ...)), ...)
end

local function numbers(text, count)
  local found = {}
  for number in string.gmatch(text, '%d+') do
    found[#found + 1] = tonumber(number)
  end
  if #found ~= count then
    error('not a bucket: ' .. key)
  end
  return found
end

local full, full_part, at, others, mine = 0, 0, 0, {}, nil
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local name, text = fields[i], fields[i + 1]
  if name == 't' then
    local t = numbers(text, 4)
    full, full_part = read(t[1], t[2], t[3])
    at = t[4]
  else
    local w = numbers(text, 5)
    local us, part = read(w[3], w[4], w[5])
    local claim = { name = name, since = w[1], till = w[2], us = us, part = part }
    if name == 'w' .. me then
      mine = claim
    else
      others[#others + 1] = claim
    end
  end
end

-- A clock that has gone back adds nothing and takes nothing. A second is waited out; over more
-- than that, everything goes back with the clock.
local changed = false
local back = at - now
if back > 1000000 then
  full, at, changed = full - back, now, true
  for _, claim in ipairs(others) do
    claim.since, claim.till = claim.since - back, claim.till - back
    redis.call('HSET', key, claim.name, whole(math.max(claim.since, 0), claim.till, claim.us, claim.part, unit))
  end
  if mine then
    mine.since, mine.till = mine.since - back, mine.till - back
  end
elseif back > 0 then
  now = at
end

if full < now then
  full, full_part = now, 0
end

-- A process that has not come back for its claim is gone, or late: it has lost its turn.
if mine and mine.till < now then
  mine.since = now
end
local last = full + 1
local alive = {}
for _, claim in ipairs(others) do
  if claim.till < now then
    redis.call('HDEL', key, claim.name)
  else
    alive[#alive + 1] = claim
    last = math.max(last, claim.till)
  end
end

-- What those take who wait for longer.
local function ahead(since)
  local us, part = 0, 0
  for _, claim in ipairs(alive) do
    if not since or claim.since < since or (claim.since == since and claim.name < 'w' .. me) then
      us, part = plus(us, part, claim.us, claim.part)
    end
  end
  return us, part
end

local since = mine and mine.since
local ahead_us, ahead_part = ahead(since)
local limit, claimed = now + capacity, nil
local answer = { now, 0 }
for i = 6, #ARGV, 3 do
  local us, part, patience = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local taken, taken_part = plus(full, full_part, us, part)
  local due, due_part = plus(taken, taken_part, ahead_us, ahead_part)
  local wait = due - limit
  if due_part > capacity_part then
    wait = wait + 1
  end
  if wait <= 0 then
    full, full_part, changed = taken, taken_part, true
    answer[#answer + 1] = 0
    if since then
      -- Its turn is over: the process is behind all others again.
      since = nil
      ahead_us, ahead_part = ahead(nil)
    end
  else
    answer[#answer + 1] = wait
    if wait <= patience then
      claimed = { till = now + wait + grace, us = us, part = part }
      break
    end
  end
end

if claimed then
  answer[2] = 1
  last = math.max(last, claimed.till)
  redis.call('HSET', key, 'w' .. me, whole(math.max(since or now, 0), claimed.till, claimed.us, claimed.part, unit))
elseif mine then
  redis.call('HDEL', key, 'w' .. me)
end
if changed then
  last = math.max(last, full + 1)
  redis.call('HSET', key, 't', whole(full, full_part, unit, math.max(at, now)))
end
if changed or claimed then
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil((last - now) / 1000) + 1))
end
return answer
