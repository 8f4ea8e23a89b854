-- One question of one process to the server that all share, answered as a whole or not at all.
--
-- KEYS  1 the account's figures (hash)   2 its processes (sorted set, by when they last asked)
--       3 when the last messages arrive (sorted set of slots, by arrival)
-- ARGV  1 the question, JSON: line.py and report.py put it together
-- Answer: now, verdict, at, sent, limit (-1: none), ends, epoch, processes, paused_until.
--
-- Times are microseconds of this server's clock; ``ends``, the day's end, is in seconds.

local SECOND, DAY = 1000000, 86400
local HOLD = 3 * SECOND          -- everybody keeps to his share: longer than anybody needs to come back
local SILENCE = SECOND           -- ... and then nobody sends, until the last of these has arrived
local FARTHEST = SECOND / 2      -- a slot is granted at most so long before its time
local LONGEST_PAUSE = 60 * SECOND
local YOUNG = 10                 -- seconds since its start in which a server may have forgotten things
local SAME_MOMENT, SHORTEST_DAY = 60, 23 * 3600  -- as in client/day.py
local FORGET_PROCESS = 300 * SECOND
local SLOWER, RECOVERY, SLOWEST = 0.8, 1.0, 1.0  -- as in client/spacing.py
local GRANTED, LATER, SHARE, DAY_OVER, NOTED, VOID = 0, 1, 2, 3, 4, 5

local question = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * SECOND + clock[2]

if question.void_after and now > question.void_after then  -- whoever asked has gone
    return {now, VOID, 0, 0, -1, 0, 0, 0, 0}
end

local kept, figures = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #kept, 2 do figures[kept[i]] = kept[i + 1] end
local run = figures.run
local function figure(name) return tonumber(figures[name] or 0) end
local epoch, known, sent = figure('epoch'), figure('known'), figure('sent')
local began, ends = figure('began'), figure('ends')  -- began 0: nobody knows
local stated, next_at, hold = figure('stated'), figure('next_at'), figure('hold')
local paused_until = figure('paused_until')
local lowered_to, lowered_at = figure('lowered_to'), figure('lowered_at')

-- Another server, or one that started again: who lost it may be on his share.

local info = redis.pcall('INFO', 'server')
info = type(info) == 'string' and info or ''
local this_run, age = info:match('run_id:(%x+)') or '', tonumber(info:match('uptime_in_seconds:(%d+)'))
if epoch == 0 or run ~= this_run then
    if epoch ~= 0 or not age or age < YOUNG then hold = now + HOLD end
    next_at = math.max(next_at, now + SILENCE)
    epoch, known, sent = now, known + sent, 0  -- what it had is perhaps not the latest
end
if question.returned and now >= hold then hold = now + HOLD end

-- What lies farther ahead than anything is put there: the clock was set back.

local slowest = math.min(SLOWEST, question.pace)
next_at = math.min(next_at, now + SILENCE + SECOND + SECOND / slowest)
hold = math.min(hold, now + HOLD)
lowered_at = math.min(lowered_at, now)

-- The day.

local function next_midnight(moment) return (math.floor(moment / DAY) + 1) * DAY end
local function begin(new_ends, new_began)
    began, ends, known, sent, stated = new_began, new_ends, 0, 0, 0
end
local function turn(moment)  -- as in client/day.py
    if moment >= ends + DAY or moment < ends - 2 * DAY then
        begin(next_midnight(moment), 0)
    elseif moment >= ends and began == 0 and ends % DAY ~= 0 then
        began, ends, stated = ends, next_midnight(ends), 0
        turn(moment)
    elseif moment >= ends then
        begin(ends + DAY, ends)
    end
end
local function went_on() return ends - began < SHORTEST_DAY end  -- as in client/day.py
local function is_today(other)
    return math.abs(other - ends) <= SAME_MOMENT
        or went_on() and math.abs(other - began) <= SAME_MOMENT
end

if ends == 0 and question.ends and question.ends * SECOND > now then ends = question.ends end
turn(now / SECOND)
if question.ends and is_today(question.ends) and question.epoch ~= epoch then
    known = math.max(known, question.known)
end
for _, owed in ipairs(question.owed) do
    if is_today(owed[1]) then sent = math.max(-known, sent + owed[2]) end
end
local function limit()
    local per_day = question.per_day
    if not per_day then return -1 end
    return stated > 0 and math.min(per_day, stated) or per_day
end
local said = question.said
if said and said.ends - began >= SHORTEST_DAY then
    if said.ends >= ends + SHORTEST_DAY then
        begin(said.ends, ends)
    elseif went_on() and said.left < said.limit then
        begin(said.ends, began)
    elseif not is_today(said.ends) then
        if began == 0 and said.ends > next_midnight(now / SECOND) then began = said.ends - DAY end
        ends = said.ends
    end
    stated = said.limit
    sent = math.max(sent, (question.per_day and limit() or said.limit) - said.left - known)
end

-- The pace.

local function pace()
    if lowered_at == 0 then return question.pace end
    return math.min(question.pace, lowered_to + RECOVERY * (now - lowered_at) / SECOND)
end

paused_until = math.max(paused_until, question.paused_until or 0)
paused_until = math.min(paused_until, now + LONGEST_PAUSE)
if question.left_at and question.left_at > lowered_at then
    lowered_to = math.max(slowest, pace() * SLOWER)
    lowered_at = now
end

-- The processes, and what they say of arrivals.

if question.leaving then
    redis.call('ZREM', KEYS[2], question.member)
else
    redis.call('ZADD', KEYS[2], now, question.member)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - FORGET_PROCESS)
for _, late in ipairs(question.late) do
    redis.call('ZADD', KEYS[3], 'XX', late[2], string.format('%.0f', late[1]))
end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - question.span - SECOND)
redis.call('ZREMRANGEBYSCORE', KEYS[3], now + 2 * SECOND, '+inf')

-- The slot.

local function first_slot()
    local at = math.max(now + question.lead, next_at, paused_until, hold + SILENCE)
    local rank = question.most - 1
    local before = redis.call('ZREVRANGE', KEYS[3], rank, rank, 'WITHSCORES')[2]
    return before and math.max(at, tonumber(before) + question.span) or at
end

local function decide()
    if now < hold then return SHARE, hold end
    if not question.wanted then return NOTED, now end
    local at = math.ceil(first_slot())
    turn(at / SECOND)
    if limit() >= 0 and known + sent >= limit() then return DAY_OVER, at end
    if at - now > FARTHEST then return LATER, at end
    next_at = at + SECOND / pace()
    sent = sent + 1
    redis.call('ZADD', KEYS[3], at, string.format('%.0f', at))
    return GRANTED, at
end

local verdict, at = decide()
local function whole(number) return string.format('%.0f', number) end
redis.call('HSET', KEYS[1], 'run', this_run, 'epoch', whole(epoch), 'known', whole(known),
    'sent', whole(sent), 'began', whole(began), 'ends', whole(ends), 'stated', whole(stated), 'next_at', whole(next_at),
    'hold', whole(hold), 'paused_until', whole(paused_until),
    'lowered_to', string.format('%.6f', lowered_to), 'lowered_at', whole(lowered_at))
redis.call('EXPIRE', KEYS[1], 3 * DAY)
redis.call('EXPIRE', KEYS[2], 3 * DAY)
redis.call('EXPIRE', KEYS[3], 60)
return {now, verdict, at, known + sent, limit(), ends, epoch, redis.call('ZCARD', KEYS[2]), paused_until}
