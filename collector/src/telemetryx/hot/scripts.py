"""What must be one step on the server: three Lua scripts. Times are its own clock, so the processes' clocks don't matter.

Each begins by deleting a key that isn't of the kind it needs: whatever others wrote under our names, it heals. Numbers are
microseconds, written as whole digits: Lua would write 1.7e15.
"""

from typing import Final

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function sound(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
"""

BEAT: Final = (
    _NOW
    + """
-- KEYS: processes (sorted set). ARGV: who, how long one counts without a beat (us). Returns who is there.
sound(KEYS[1], 'zset')
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ARGV[2]))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
return redis.call('ZRANGE', KEYS[1], 0, -1)
"""
)

BUCKET: Final = (
    _NOW
    + """
-- KEYS: one key's bucket. ARGV: time of one token (us), tokens that may be saved up. Returns the wait (us).
-- The value is when the bucket will be full again (GCRA).
sound(KEYS[1], 'string')
local each = tonumber(ARGV[1])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') or 0, now)
if full - now > each * (ARGV[2] + 1) then full = now end
local wait = full + each - now - each * ARGV[2]
if wait > 0.5 then return string.format('%.0f', wait) end
redis.call('SET', KEYS[1], string.format('%.0f', full + each), 'PX', math.ceil((full + each - now) / 1000))
return '0'
"""
)

TURN: Final = (
    _NOW
    + """
-- KEYS: the next turn, this one's appointment. ARGV: gap between turns, saved-up turns' time, how early one may come,
-- how long an appointment is kept, how far ahead appointments are kept (all us). Returns the wait (us).
sound(KEYS[1], 'string')
sound(KEYS[2], 'string')
local gap, burst, early, grace, ahead = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local due = tonumber(redis.call('GET', KEYS[2]) or '')
if due then
  if now < due - early then return string.format('%.0f', due - now) end
  redis.call('DEL', KEYS[2])
  if now <= due + grace then return '0' end
end
local slot = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') or 0, now - burst + gap)
redis.call('SET', KEYS[1], string.format('%.0f', slot + gap), 'PX', math.ceil((slot + gap - now + burst) / 1000) + 1)
if slot <= now then return '0' end
if slot - now <= ahead then
  redis.call('SET', KEYS[2], string.format('%.0f', slot), 'PX', math.ceil((slot - now + grace) / 1000))
end
return string.format('%.0f', slot - now)
"""
)
