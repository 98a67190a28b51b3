-- Gives back, renews and gives out the slots of one bulkhead, in this order.
--
-- Times are microseconds of the server's clock `now`: whole numbers below 2^53, which Lua's
-- doubles hold exactly.
--
-- KEYS: the leases, a sorted set of "name:weight" by when each runs out; and the book, a hash:
-- `fence` is the last fencing token, `used` the weight of all leases, `at` when it was written;
-- a field `w<process>` is the claim of a process whose first caller waits: "since until weight".
-- ARGV: process, length of a lease, slots, how long a claim lives; how many are given back,
-- renewed and asked for; then each that is given back: its lease; each that is renewed: its
-- lease and token; each that is asked for: its lease, and 1 if it would wait.
-- Answers: now, slots in use, 1 if the last of these waits and has a claim, for each renewal 1
-- if the lease goes on, for each asked for its token or 0. What is behind one that waits is not
-- asked.
local leases, book, me = KEYS[1], KEYS[2], ARGV[1]
local length, slots, patience = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local function whole(number)
  return string.format('%.0f', number)
end

local function weight(lease)
  return tonumber(string.match(lease, ':(%d+)$'))
end

local fence, used, at, others, mine = 0, nil, 0, {}, nil
local fields = redis.call('HGETALL', book)
for i = 1, #fields, 2 do
  local name, text = fields[i], fields[i + 1]
  if name == 'fence' then
    fence = tonumber(text)
  elseif name == 'used' then
    used = tonumber(text)
  elseif name == 'at' then
    at = tonumber(text)
  else
    local since, till, heavy = string.match(text, '^(-?%d+) (-?%d+) (%d+)$')
    local claim = { name = name, since = tonumber(since), till = tonumber(till), weight = tonumber(heavy) }
    if name == 'w' .. me then
      mine = claim
    else
      others[#others + 1] = claim
    end
  end
end

-- One of the two keys can be gone without the other where the server evicts keys.
local count = redis.call('ZCARD', leases)
if count == 0 then
  used = 0
elseif not used then
  used = 0
  for _, lease in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    used = used + weight(lease)
  end
end

-- Over a clock that has gone back, leases keep what was left of them. A second is waited out.
local back = at - now
if back > 1000000 then
  at = now
  local all = redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    redis.call('ZADD', leases, whole(tonumber(all[i + 1]) - back), all[i])
  end
  for _, claim in ipairs(others) do
    claim.since, claim.till = claim.since - back, claim.till - back
    redis.call('HSET', book, claim.name, whole(claim.since) .. ' ' .. whole(claim.till) .. ' ' .. whole(claim.weight))
  end
  if mine then
    mine.since, mine.till = mine.since - back, mine.till - back
  end
elseif back > 0 then
  now = at
end

local function drop(lease)
  if redis.call('ZREM', leases, lease) == 1 then
    used = used - weight(lease)
  end
end

local function keep(lease)
  redis.call('ZADD', leases, whole(now + length), lease)
end

local arg = 7
local function following()
  arg = arg + 1
  return ARGV[arg]
end

for _ = 1, tonumber(ARGV[5]) do
  drop(following())
end
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', whole(now))) do
  drop(lease)
end

local answer = { now, 0, 0 }
for _ = 1, tonumber(ARGV[6]) do
  local lease, token = following(), tonumber(following())
  if redis.call('ZSCORE', leases, lease) then
    keep(lease)
    answer[#answer + 1] = 1
  elseif used + weight(lease) <= slots then
    -- The server has lost it. It keeps its token: whoever has seen a later one refuses it.
    keep(lease)
    used = used + weight(lease)
    fence = math.max(fence, token)
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end

local alive = {}
for _, claim in ipairs(others) do
  if claim.till < now then
    redis.call('HDEL', book, claim.name)
  else
    alive[#alive + 1] = claim
  end
end
if mine and mine.till < now then
  mine.since = now
end

-- What those take who wait for longer.
local function ahead(since)
  local sum = 0
  for _, claim in ipairs(alive) do
    if not since or claim.since < since or (claim.since == since and claim.name < 'w' .. me) then
      sum = sum + claim.weight
    end
  end
  return sum
end

local since, claimed = mine and mine.since, nil
local before = ahead(since)
for _ = 1, tonumber(ARGV[7]) do
  local lease, waits = following(), following()
  local heavy = weight(lease)
  if used + before + heavy <= slots then
    keep(lease)
    used = used + heavy
    -- Above the clock too, so that tokens go on rising when the book was lost.
    fence = math.max(fence + 1, now)
    answer[#answer + 1] = fence
    if since then
      -- Its turn is over: the process is behind all others again.
      since, before = nil, ahead(nil)
    end
  else
    answer[#answer + 1] = 0
    if waits == '1' then
      claimed = heavy
      break
    end
  end
end

answer[2] = used
if claimed then
  answer[3] = 1
  redis.call('HSET', book, 'w' .. me, whole(since or now) .. ' ' .. whole(now + patience) .. ' ' .. whole(claimed))
elseif mine then
  redis.call('HDEL', book, 'w' .. me)
end
redis.call('HSET', book, 'fence', whole(fence), 'used', whole(used), 'at', whole(math.max(at, now)))

-- The book outlives the leases by a day.
local longest = redis.call('ZREVRANGE', leases, 0, 0, 'WITHSCORES')[2]
if longest then
  redis.call('PEXPIRE', leases, whole(math.ceil((tonumber(longest) - now) / 1000) + 1))
end
redis.call('PEXPIRE', book, whole(86400000 + math.ceil(length / 1000)))
return answer
