#include "broker/redis_script.h"

#include "broker/redis_keys.h"

#include <nettle/sha1.h>
#include <stdio.h>
#include <string.h>

/* Kept as plain text in source order; the numbers S1-S11 are those of redis_script.h. */

/* keep stores and announces a result and is false where it may not (S5): most results are the first
 * of their key, which SET tells by itself. is_success: a stored result must not be overwritten. An
 * error other than a wrong type (no permission) comes back as second value, before anything was
 * written. */
#define LUA_IS_SUCCESS                                                                             \
    "local function is_success(key)\n"                                                             \
    "  local head = redis.pcall('GETRANGE', key, 0, 19)\n"                                         \
    "  if type(head) == 'table' then\n"                                                            \
    "    if string.find(head.err, 'WRONGTYPE', 1, true) then return false end\n"                   \
    "    return false, head\n"                                                                     \
    "  end\n"                                                                                      \
    "  return head == '{\"status\": \"SUCCESS\"'\n"                                                \
    "    or string.sub(head, 1, 19) == '{\"status\":\"SUCCESS\"'\n"                                \
    "end\n"                                                                                        \
    "local function in_results(f, a, b, c)\n"                                                      \
    "  if ARGV[2] == '' then return f(a, b, c) end\n"                                              \
    "  redis.call('SELECT', ARGV[2])\n"                                                            \
    "  local x, y = f(a, b, c)\n"                                                                  \
    "  redis.call('SELECT', ARGV[1])\n"                                                            \
    "  return x, y\n"                                                                              \
    "end\n"                                                                                        \
    "local function set(key, px, doc, ...)\n"                                                      \
    "  if px == '0' then return redis.call('SET', key, doc, ...) end\n"                            \
    "  return redis.call('SET', key, doc, 'PX', px, ...)\n"                                        \
    "end\n"                                                                                        \
    "local function keep(key, px, doc)\n"                                                          \
    "  if not set(key, px, doc, 'NX') then\n"                                                      \
    "    if is_success(key) then return false end\n"                                               \
    "    set(key, px, doc)\n"                                                                      \
    "  end\n"                                                                                      \
    "  redis.pcall('PUBLISH', key, doc)\n"                                                         \
    "  return true\n"                                                                              \
    "end\n"

/* Wrong type of a list or zset that something is about to be pushed to. */
#define LUA_FITS                                                                                   \
    "local function fits(key, kind)\n"                                                             \
    "  local t = redis.call('TYPE', key).ok\n"                                                     \
    "  return t == 'none' or t == kind\n"                                                          \
    "end\n"

/* S8. dest is the queue's own index of delayed messages. */
#define LUA_DELAY                                                                                  \
    "local function delay(zset, hash, dest, due, tag, envelope)\n"                                 \
    "  redis.call('ZADD', zset, due, tag)\n"                                                       \
    "  redis.call('ZADD', dest, due, tag)\n"                                                       \
    "  redis.call('HSET', hash, tag, envelope)\n"                                                  \
    "end\n"

#define LUA_COUNT                                                                                  \
    "local function count(key, name, n)\n"                                                         \
    "  if n ~= 0 then redis.call('HINCRBY', key, name, n) end\n"                                   \
    "end\n"

/* How many messages of a value of celeriac:bulk have not ended. S12. */
#define LUA_LEFT_IN_BULK                                                                           \
    "local function left_in_bulk(v)\n"                                                             \
    "  return select(2, string.gsub(string.match(v, '^[-x]+ ') or '', '%-', ''))\n"                \
    "end\n"

/* What the end of a delivery means for the key it holds: r given up, else the new value's first
 * letter and its life. S10, S11. */
#define LUA_SETTLE                                                                                 \
    "local function settle(key, field, mode, px)\n"                                                \
    "  local held, v = 'h' .. #field .. ':' .. field, redis.pcall('GET', key)\n"                   \
    "  if type(v) ~= 'string' or string.sub(v, 1, #held) ~= held then return end\n"                \
    "  if mode == 'r' then redis.call('DEL', key)\n"                                               \
    "  else redis.call('SET', key, mode .. string.sub(v, #held + 1), 'PX', px) end\n"              \
    "end\n"

/* KEYS totals, delayed, delayed:messages, then per item: destination, token.
 * ARGV per item: flags (count, token, delayed), envelope, due, tag.
 * Returns pairs of item number and error text of what was not done. S6, S7, S8. */
static const char publish[] = LUA_DELAY LUA_COUNT
    "local failed, published = {}, 0\n"
    "local run, run_items, run_key = {}, {}, nil\n"
    "local fatal = nil\n"
    "local function flush()\n"
    "  if #run == 0 then return end\n"
    "  local r = redis.pcall('LPUSH', run_key, unpack(run))\n"
    "  if type(r) == 'table' then\n"
    "    if not string.find(r.err, 'WRONGTYPE', 1, true) then fatal = r end\n"
    "    for _, i in ipairs(run_items) do\n"
    "      if string.byte(ARGV[4 * i + 1], 2) == 49 then redis.call('DEL', KEYS[5 + 2 * i]) end\n"
    "      if string.byte(ARGV[4 * i + 1], 1) == 49 then published = published - 1 end\n"
    "      failed[#failed + 1] = i\n"
    "      failed[#failed + 1] = r.err\n"
    "    end\n"
    "  end\n"
    "  run, run_items = {}, {}\n"
    "end\n"
    "for i = 0, (#KEYS - 3) / 2 - 1 do\n"
    "  local dest, flags = KEYS[4 + 2 * i], ARGV[4 * i + 1]\n"
    "  local fresh = string.byte(flags, 2) ~= 49\n"
    "    or redis.call('SET', KEYS[5 + 2 * i], '1', 'PX', 60000, 'NX')\n"
    "  if fresh then\n"
    "    if string.byte(flags, 1) == 49 then published = published + 1 end\n"
    "    if string.byte(flags, 3) == 49 then\n"
    "      delay(KEYS[2], KEYS[3], dest, ARGV[4 * i + 3], ARGV[4 * i + 4], ARGV[4 * i + 2])\n"
    "    else\n"
    "      if dest ~= run_key or #run >= 500 then flush() end\n"
    "      run_key = dest\n"
    "      run[#run + 1] = ARGV[4 * i + 2]\n"
    "      run_items[#run_items + 1] = i\n"
    "    end\n"
    "  end\n"
    "end\n"
    "flush()\n"
    "if fatal then return fatal end\n"
    "count(KEYS[1], 'published', published)\n"
    "return failed\n";

/* Many messages for some lists. KEYS totals, token, lists. ARGV how many for each list, then the
 * messages, those of one list after the other. Returns pairs of list number and error text of what
 * was not pushed, now or when it came first. S6, S7. */
static const char push[] = LUA_COUNT
    "local bad, n, at = {}, 0, #KEYS - 1\n"
    "if not redis.call('SET', KEYS[2], '1', 'PX', 60000, 'NX') then\n"
    "  for list, err in string.gmatch(redis.call('GET', KEYS[2]), '(%d+) ([^\\n]*)\\n') do\n"
    "    bad[#bad + 1] = tonumber(list)\n"
    "    bad[#bad + 1] = err\n"
    "  end\n"
    "  return bad\n"
    "end\n"
    "local refused = ''\n"
    "for i = 3, #KEYS do\n"
    "  local len = tonumber(ARGV[i - 2])\n"
    "  local r = redis.pcall('LPUSH', KEYS[i], unpack(ARGV, at, at + len - 1))\n"
    "  at = at + len\n"
    "  if type(r) == 'table' then\n"
    "    bad[#bad + 1] = i - 3\n"
    "    bad[#bad + 1] = r.err\n"
    "    refused = refused .. string.format('%d %s\\n', i - 3, r.err)\n"
    "  else n = n + len end\n"
    "end\n"
    "if n == 0 then redis.call('DEL', KEYS[2])\n"
    "elseif refused ~= '' then redis.call('SET', KEYS[2], refused, 'PX', 60000) end\n"
    "count(KEYS[1], 'published', n)\n"
    "return bad\n";

/* What a transaction did beside an LPUSH that failed. KEYS totals, token. ARGV how many messages,
 * and what the token is to tell as push has it, if others were pushed with them. S6, S7. */
static const char take_back[] =
    "if ARGV[2] == '' then redis.call('DEL', KEYS[2])\n"
    "else\n"
    "  local told = redis.call('GET', KEYS[2]) or '1'\n"
    "  redis.call('SET', KEYS[2], (told == '1' and '' or told) .. ARGV[2], 'PX', 60000)\n"
    "end\n"
    "return redis.call('HINCRBY', KEYS[1], 'published', -ARGV[1])\n";

/* Ends a producer's own count. KEYS totals, sent, and the token of a push in doubt. ARGV field, how
 * many of it are taken back, the value it has if that push happened. HDEL comes first because a
 * server out of memory refuses a growing command there. S6, S7. */
static const char sent[] =
    LUA_COUNT "local n = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)\n"
              "redis.call('HDEL', KEYS[2], ARGV[1])\n"
              "if KEYS[3] and n >= tonumber(ARGV[3]) then\n"
              "  redis.call('SET', KEYS[3], '1', 'PX', 60000)\n"
              "end\n"
              "count(KEYS[1], 'published', n - ARGV[2])\n"
              "return n\n";

/* The same for all fields that are older. KEYS totals, sent. ARGV the oldest hour that stays. S7.
 */
static const char sent_sweep[] =
    LUA_COUNT "local n = 0\n"
              "for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do\n"
              "  if string.sub(field, 1, #ARGV[1]) < ARGV[1] then\n"
              "    n = n + redis.call('HGET', KEYS[2], field)\n"
              "    redis.call('HDEL', KEYS[2], field)\n"
              "  end\n"
              "end\n"
              "count(KEYS[1], 'published', n)\n"
              "return n\n";

/* One fetch leases from so many lists in bulk (REDIS_BULK_LISTS), of which so many may hold less
 * than it is worth: else the messages of a long list would have leases of their own for a short
 * one that is served before it. */
#define BULK_LEAST "4"
#define BULK_FEW   "4"
#define BULK_LISTS "32"

/* KEYS the lists in the order they are served, and no other key: before 7.2 Redis makes the bell
 * ring for all keys that a reading script was given, so that every fetch rang for what it wrote
 * itself, and other workers' leases for idle ones. ARGV how many, score, field in front of the
 * fence, field behind it, how many bytes, `listen` when the bell is to ring for the lists that are
 * empty then (`look`: they probably all are), the number of what is leased in bulk ('': nothing
 * is), more than how many the first list is to hold for that ('': anything), then per list the
 * tail of the recorded value. Returns the first fence, how many of the lists, from the first on,
 * are empty now, and were read if the bell is to ring (-1: nothing can be leased in bulk here),
 * and pairs of list number and element; nothing when there were none at all. S1, S2. Lists that
 * hold many, from the first on, and a few short ones between them are leased in bulk, each under a
 * number of its own: then it returns a zero, how many are empty as above, and triples of list
 * number, how many, and the first fence as S12 has it. A list that is leased from end to end is
 * renamed, which costs nothing by message. What stands in front, where it is not one of many
 * fetches, does nothing but make a wrong type fail before the first pop; HDEL comes first because
 * a server out of memory refuses a growing command there. If a type has become wrong since, what
 * was popped goes back to where it was. Lists are read after they were popped, and full ones not
 * at all: who pops what it listens for rings for itself, and each command that reads makes the
 * server remember all KEYS. So what may find little asks in commands that could write: RPOP of
 * none, SORT of one. Pops grow from 2 to 16 messages while those that came were small; before
 * Redis 6.2 each is one. */
/* Longer than the 4,095 characters that every C compiler takes; gcc and clang take any. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
static const char fetch[] =
    "local unacked, index, numbers = '" REDIS_UNACKED "', '" REDIS_INDEX "', '" REDIS_FENCE "'\n"
    "local call, pcall, bulk = redis.call, redis.pcall, '" REDIS_BULK "'\n"
    "if ARGV[6] == 'look' and call('EXISTS', unpack(KEYS)) == 0 then return {} end\n"
    "if ARGV[6] ~= 'listen' then\n"
    "  call('HDEL', unacked, '')\n"
    "  call('ZREM', index, '')\n"
    "  call('SETRANGE', numbers, 0, '')\n"
    "end\n"
    "local want, room = tonumber(ARGV[1]), tonumber(ARGV[5])\n"
    "local out, n, empty, step, most = {0, 0}, 0, 0, 2, 16\n"
    "local records, few, moves, next_fence = {}, 0, nil, nil\n"
    "local function number(...)\n"
    "  local got = pcall(...)\n"
    "  return type(got) == 'number' and got or 0\n"
    "end\n"
    "local function many(key)\n"
    "  local probe = bulk .. ':' .. ARGV[3] .. ARGV[7] .. ARGV[4]\n"
    "  local got = pcall('SORT', key, 'BY', 'nosort', 'LIMIT', ARGV[8], '1', 'STORE', probe)\n"
    "  if type(got) == 'table' then\n"
    "    return string.find(got.err, 'WRONGTYPE', 1, true) and 0 or -1\n"
    "  end\n"
    "  if got == 0 then return 0 end\n"
    "  call('DEL', probe)\n"
    "  return number('MEMORY', 'USAGE', key) * want <= room * number('LLEN', key) and 1 or 0\n"
    "end\n"
    /* Redis itself writes a number with 17 digits of a float, which costs as much as a command. */
    "local function digits(n) return string.format('%d', n) end\n"
    "local function lease_in_bulk(i)\n"
    "  local name = ARGV[3] .. string.format('%020d', ARGV[7] + (#out - 2) / 3) .. ARGV[4]\n"
    "  local len, list = number('LLEN', KEYS[i]), bulk .. ':' .. name\n"
    "  local n = math.min(len, want)\n"
    "  if n == 0 then return 1 end\n"
    "  few = few + (n < " BULK_LEAST " and 1 or 0)\n"
    "  if few > " BULK_FEW " then return 0 end\n"
    "  if moves == nil then moves = pcall('RENAME', list, list).err == 'ERR no such key' end\n"
    "  local copied = n < len or not moves\n"
    "  if copied and number('SORT', KEYS[i], 'BY', 'nosort', 'LIMIT', '0', digits(n), 'DESC',\n"
    "    'STORE', list) == 0 then return -1 end\n"
    "  local key = copied and list or KEYS[i]\n"
    "  local size = number('MEMORY', 'USAGE', key, 'SAMPLES', '0')\n"
    "  local may = size > 0 and (#out > 2 or not pcall('LRANGE', key, '1', '0').err)\n"
    "  if not may or size > room then\n"
    "    if copied then call('DEL', list) end\n"
    "    return may and 0 or -1\n"
    "  end\n"
    "  local fence = next_fence or call('INCRBY', numbers, want) - want + 1\n"
    "  local k, first = #out, copied and fence or -fence\n"
    "  records[#records + 1] = name\n"
    "  records[#records + 1] = string.rep('-', n) .. string.format(' %.0f ', first)\n"
    "    .. ARGV[2] .. ' ' .. ARGV[8 + i]\n"
    "  out[k + 1], out[k + 2], out[k + 3] = i - 1, n, first\n"
    "  want, room, next_fence = want - n, room - size, fence + n\n"
    "  return 1\n"
    "end\n"
    "local function hear()\n"
    "  if empty > 0 and call('EXISTS', unpack(KEYS, 1, empty)) > 0 then empty = 0 end\n"
    "  return empty\n"
    "end\n"
    "local leased = ARGV[7] == '' and 0 or ARGV[8] == '' and 1 or many(KEYS[1])\n"
    "if leased > 0 then\n"
    "  call('HDEL', bulk, '')\n"
    "  call('SETRANGE', numbers, 0, '')\n"
    "end\n"
    "for i = 1, #KEYS do\n"
    "  if leased <= 0 or want == 0 or #out > 3 * " BULK_LISTS " then break end\n"
    "  if pcall('RPOP', KEYS[i], '0') then leased = lease_in_bulk(i) end\n"
    "  if leased > 0 and want > 0 and empty == i - 1 then empty = i end\n"
    "end\n"
    "if #out > 2 then\n"
    "  call('HSET', bulk, unpack(records))\n"
    "  for k = 3, #out, 3 do\n"
    "    local key = KEYS[out[k] + 1]\n"
    "    if out[k + 2] < 0 then call('RENAME', key, bulk .. ':' .. records[2 * k / 3 - 1])\n"
    "    else call('LTRIM', key, '0', digits(-out[k + 1] - 1)) end\n"
    "  end\n"
    "  out[2] = ARGV[6] ~= '' and hear() or empty\n"
    "  return out\n"
    "end\n"
    "empty = 0\n"
    "local function pop(key, count)\n"
    "  if count > 1 then\n"
    "    local m = pcall('RPOP', key, count)\n"
    "    if not m then return {} end\n"
    "    if not m.err then return m end\n"
    "    most, step = 1, 1\n"
    "  end\n"
    "  local m = pcall('RPOP', key)\n"
    "  return type(m) == 'string' and {m} or {}\n"
    "end\n"
    "for i = 1, #KEYS do\n"
    "  while n < want and room > 0 do\n"
    "    local count = math.min(step, want - n)\n"
    "    local got = pop(KEYS[i], count)\n"
    "    for _, m in ipairs(got) do\n"
    "      n = n + 1\n"
    "      room = room - #m\n"
    "      out[2 * n + 1] = i - 1\n"
    "      out[2 * n + 2] = m\n"
    "    end\n"
    "    if #got < count then\n"
    "      empty = i\n"
    "      break\n"
    "    end\n"
    "    local size = (tonumber(ARGV[5]) - room) / n\n"
    "    step = math.max(1, math.min(2 * step, most, math.floor(room / (8 * size + 1))))\n"
    "  end\n"
    "  if n >= want or room <= 0 then break end\n"
    "end\n"
    "if ARGV[6] ~= '' then\n"
    "  if KEYS[empty + 1] and not pcall('RPOP', KEYS[empty + 1], 0) then\n"
    "    empty = empty + 1\n"
    "  end\n"
    "  hear()\n"
    "end\n"
    "if n == 0 then return {} end\n"
    "local hset, zadd, wrong = {}, {}, nil\n"
    "local function try(...)\n"
    "  local got = pcall(...)\n"
    "  if type(got) == 'table' then wrong = wrong or got end\n"
    "  return got\n"
    "end\n"
    "local fence = try('INCRBY', numbers, n)\n"
    "for k = 1, wrong and 0 or n do\n"
    "  local field = ARGV[3] .. string.format('%020.0f', fence - n + k) .. ARGV[4]\n"
    "  hset[2 * k - 1] = field\n"
    "  hset[2 * k] = '[' .. out[2 * k + 2] .. ARGV[9 + out[2 * k + 1]]\n"
    "  zadd[2 * k - 1] = ARGV[2]\n"
    "  zadd[2 * k] = field\n"
    "end\n"
    "if not wrong then try('ZADD', index, unpack(zadd)) end\n"
    "if not wrong then try('HSET', unacked, unpack(hset)) end\n"
    "if wrong then\n"
    "  for k = n, 1, -1 do call('RPUSH', KEYS[out[2 * k + 1] + 1], out[2 * k + 2]) end\n"
    "  for k = 2, #zadd, 2 do pcall('ZREM', index, zadd[k]) end\n"
    "  return wrong\n"
    "end\n"
    "out[1] = fence - n + 1\n"
    "out[2] = leased < 0 and leased or empty\n"
    "return out\n";
#pragma GCC diagnostic pop

/* KEYS unacked, unacked_index, totals, delayed, delayed:messages, then per item: result key,
 * its dedup key if it has one, destinations of its follow-ups. ARGV broker db, result db ('' when
 * equal), the usual px of a result, then per item: field, document, and '' for the usual end, a
 * success of that px and nothing more, or '1' when it was also never counted as published. Any
 * other end says "counter new px n settle": the counter to raise (duplicates: and succeeded), 1
 * when it was never counted as published, the px ('-' no result, '0' for ever), how many
 * follow-ups, and how to settle its key ("letter px window") if it has one; then come per follow-up
 * flags, envelope, due, tag.
 * Returns per item 1 done, 2 duplicate, 0 refused, or an error text. S3, S4, S5, S7, S9, S11. */
static const char finish[] = LUA_IS_SUCCESS LUA_FITS LUA_DELAY LUA_COUNT LUA_SETTLE
    "local call, out, total, gone = redis.call, {}, {}, {}\n"
    "local function add(name, n) total[name] = (total[name] or 0) + n end\n"
    "local k, a, last = 6, 4, #ARGV\n"
    "local function take(field)\n"
    "  if call('HDEL', KEYS[1], field) == 0 then return end\n"
    "  gone[#gone + 1] = field\n"
    "  return true\n"
    "end\n"
    "local function duplicate()\n"
    "  add('succeeded', 1)\n"
    "  add('duplicates', 1)\n"
    "  return 2\n"
    "end\n"
    "local function usual_end(field, doc, how)\n"
    "  if not take(field) then return 0 end\n"
    "  if how ~= '' then add('published', 1) end\n"
    "  if not in_results(keep, KEYS[k], ARGV[3], doc) then return duplicate() end\n"
    "  add('succeeded', 1)\n"
    "  return 1\n"
    "end\n"
    "local function check(field, n, px, d)\n"
    "  if call('HEXISTS', KEYS[1], field) == 0 then return 0 end\n"
    "  if px ~= '-' and in_results(is_success, KEYS[k]) then return 2 end\n"
    "  for j = 1, n do\n"
    "    local kind = string.byte(ARGV[a + 4 * j - 1], 3) == 49 and 'zset' or 'list'\n"
    "    if not fits(KEYS[d + j], kind) then\n"
    "      return 'WRONGTYPE follow-up cannot be pushed to ' .. KEYS[d + j]\n"
    "    end\n"
    "  end\n"
    "  return 1\n"
    "end\n"
    "local function any_end(field, doc, how)\n"
    "  local outcome, new, px, n, claim = how:match('(%a+) (%d) (%S+) (%d+) (.*)')\n"
    "  n = tonumber(n)\n"
    "  local key, d, at = KEYS[k], claim == '' and k or k + 1, a\n"
    "  local verdict = n > 0 and check(field, n, px, d) or 1\n"
    "  k, a = d + n, a + 4 * n\n"
    "  if verdict ~= 1 and verdict ~= 2 then return verdict end\n"
    "  if not take(field) then return 0 end\n"
    "  if verdict == 1 and px ~= '-' and not in_results(keep, key, px, doc) then\n"
    "    verdict = 2\n"
    "  end\n"
    "  if new == '1' then add('published', 1) end\n"
    "  if claim ~= '' then\n"
    "    local mode, life, window = claim:match('(%a) (%d+) (%d+)')\n"
    "    if verdict == 2 then mode, life = 'd', window end\n"
    "    settle(KEYS[d], field, mode, life)\n"
    "  end\n"
    "  if verdict == 2 then return duplicate() end\n"
    "  if outcome == 'duplicates' then verdict = duplicate() else add(outcome, 1) end\n"
    "  for j = 1, n do\n"
    "    local dest, f = KEYS[d + j], at + 4 * j - 1\n"
    "    if string.byte(ARGV[f], 1) == 49 then add('published', 1) end\n"
    "    if string.byte(ARGV[f], 3) == 49 then\n"
    "      delay(KEYS[4], KEYS[5], dest, ARGV[f + 2], ARGV[f + 3], ARGV[f + 1])\n"
    "    else\n"
    "      call('LPUSH', dest, ARGV[f + 1])\n"
    "    end\n"
    "  end\n"
    "  return verdict\n"
    "end\n"
    "local _, bad = in_results(is_success, KEYS[6])\n"
    "if bad then return bad end\n"
    "while a <= last do\n"
    "  local how = ARGV[a + 2]\n"
    "  out[#out + 1] = (#how < 2 and usual_end or any_end)(ARGV[a], ARGV[a + 1], how)\n"
    "  k, a = k + 1, a + 3\n"
    "end\n"
    "if #gone > 0 then call('ZREM', KEYS[2], unpack(gone)) end\n"
    "for name, n in pairs(total) do count(KEYS[3], name, n) end\n"
    "return out\n";

/* Usual ends of what is leased in bulk. KEYS totals, celeriac:bulk, then lists of messages, each
 * followed by the result keys of items that are in it; a list may come again. ARGV broker db,
 * result db, px of a result, then '' for each list, and per item twice its number in the list, from
 * 1 on, and 1 more when it was never counted as published, and its document. Returns as finish
 * does. S4, S5, S7, S9, S12. */
static const char finish_bulk[] = LUA_IS_SUCCESS LUA_COUNT
    "local call, out, stored = redis.call, {}, {}\n"
    "local keys, names, lists, list = {}, {}, {}, nil\n"
    "local published, succeeded, duplicates = 0, 0, 0\n"
    "local function open()\n"
    "  for i, value in ipairs(call('HMGET', KEYS[2], unpack(names))) do\n"
    "    local text, rest = string.match(value or '', '^([-x]+)( .*)')\n"
    "    text = text or ''\n"
    "    lists[keys[i]] = {marks = {string.byte(text, 1, -1)}, rest = rest,\n"
    "      left = select(2, string.gsub(text, '%-', ''))}\n"
    "  end\n"
    "end\n"
    "local function close()\n"
    "  local left, over, gone = {}, {}, {}\n"
    "  for i, key in ipairs(keys) do\n"
    "    local l = lists[key]\n"
    "    if l.left > 0 then\n"
    "      left[#left + 1] = names[i]\n"
    "      left[#left + 1] = string.char(unpack(l.marks)) .. l.rest\n"
    "    elseif l.rest then\n"
    "      over[#over + 1] = names[i]\n"
    "      gone[#gone + 1] = key\n"
    "    end\n"
    "  end\n"
    "  if #left > 0 then call('HSET', KEYS[2], unpack(left)) end\n"
    "  if #over > 0 then\n"
    "    call('HDEL', KEYS[2], unpack(over))\n"
    "    call('DEL', unpack(gone))\n"
    "  end\n"
    "end\n"
    "local function take(n)\n"
    "  local at = math.floor(n / 2)\n"
    "  if list.marks[at] ~= 45 then return 0 end\n"
    "  list.marks[at] = 120\n"
    "  list.left = list.left - 1\n"
    "  published = published + n % 2\n"
    "  return 1\n"
    "end\n"
    "local _, bad = in_results(is_success, KEYS[4])\n"
    "if bad then return bad end\n"
    "call('HDEL', KEYS[2], '')\n"
    "local k, a = 3, 4\n"
    "while a <= #ARGV do\n"
    "  if ARGV[a] == '' and not lists[KEYS[k]] then\n"
    "    lists[KEYS[k]] = true\n"
    "    keys[#keys + 1] = KEYS[k]\n"
    "    names[#names + 1] = string.sub(KEYS[k], #KEYS[2] + 2)\n"
    "  end\n"
    "  k, a = k + 1, a + (ARGV[a] == '' and 1 or 2)\n"
    "end\n"
    "open()\n"
    "k, a = 3, 4\n"
    "while a <= #ARGV do\n"
    "  if ARGV[a] == '' then\n"
    "    list = lists[KEYS[k]]\n"
    "    k, a = k + 1, a + 1\n"
    "  else\n"
    "    out[#out + 1] = take(tonumber(ARGV[a]))\n"
    "    if out[#out] == 1 then stored[#out] = {KEYS[k], ARGV[a + 1]} end\n"
    "    k, a = k + 1, a + 2\n"
    "  end\n"
    "end\n"
    "close()\n"
    "for i, result in pairs(stored) do\n"
    "  succeeded = succeeded + 1\n"
    "  if not in_results(keep, result[1], ARGV[3], result[2]) then\n"
    "    out[i] = 2\n"
    "    duplicates = duplicates + 1\n"
    "  end\n"
    "end\n"
    "count(KEYS[1], 'published', published)\n"
    "count(KEYS[1], 'succeeded', succeeded)\n"
    "count(KEYS[1], 'duplicates', duplicates)\n"
    "return out\n";

/* What is left of a lease in bulk becomes leases of their own. KEYS unacked, unacked_index,
 * celeriac:bulk, list. Returns how many, 0 when it is over. S1, S2, S12. */
static const char unbulk[] =
    "local name = string.sub(KEYS[4], #KEYS[3] + 2)\n"
    "local value = redis.call('HGET', KEYS[3], name)\n"
    "if not value then return 0 end\n"
    "local marks, first, score, tail = string.match(value, '^([-x]+) (-?%d+) (%S+) (.*)')\n"
    "local head, back = string.match(name, '^(.*/)%d+(/%d+/%x+)$')\n"
    "if not (marks and head) then return redis.error_reply('ERR not a lease: ' .. name) end\n"
    "redis.call('HDEL', KEYS[1], '')\n"
    "redis.call('ZREM', KEYS[2], '')\n"
    "local hset, zadd = {}, {}\n"
    "local elements = redis.call('LRANGE', KEYS[4], 0, #marks - 1)\n"
    "for i = 1, #elements do\n"
    "  if string.byte(marks, i) == 45 then\n"
    "    local at = tonumber(first) < 0 and #elements + 1 - i or i\n"
    "    local field = head .. string.format('%020.0f', math.abs(first) + i - 1) .. back\n"
    "    hset[#hset + 1] = field\n"
    "    hset[#hset + 1] = '[' .. elements[at] .. tail\n"
    "    zadd[#zadd + 1] = score\n"
    "    zadd[#zadd + 1] = field\n"
    "  end\n"
    "end\n"
    "if #zadd > 0 then\n"
    "  redis.call('ZADD', KEYS[2], unpack(zadd))\n"
    "  redis.call('HSET', KEYS[1], unpack(hset))\n"
    "end\n"
    "redis.call('HDEL', KEYS[3], name)\n"
    "redis.call('DEL', KEYS[4])\n"
    "return #zadd / 2\n";

/* KEYS unacked, then result keys. ARGV broker db, result db, then per item: field, px, document.
 * S3, S5. */
static const char note[] =
    LUA_IS_SUCCESS "for i = 0, #KEYS - 2 do\n"
                   "  local key = KEYS[2 + i]\n"
                   "  if redis.call('HEXISTS', KEYS[1], ARGV[3 * i + 3]) == 1 then\n"
                   "    in_results(keep, key, ARGV[3 * i + 4], ARGV[3 * i + 5])\n"
                   "  end\n"
                   "end\n"
                   "return 1\n";

/* KEYS unacked, unacked_index. ARGV score, fields. Returns the numbers of the fields that are gone.
 */
static const char renew[] = "local lost = {}\n"
                            "for i = 2, #ARGV do\n"
                            "  if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then\n"
                            "    redis.call('ZADD', KEYS[2], ARGV[1], ARGV[i])\n"
                            "  else lost[#lost + 1] = i - 2 end\n"
                            "end\n"
                            "return lost\n";

/* KEYS unacked, unacked_index, totals, then per item: grave, its reasons, result key, dedup key.
 * ARGV broker db, result db, then per item: field, bytes of the tail, never counted as published,
 * reason, px, document, 1 when it has a dedup key to give up. Returns per item 1, 0 refused, or an
 * error text. S2, S3, S5, S7, S11. */
static const char bury[] = LUA_IS_SUCCESS LUA_FITS LUA_COUNT LUA_SETTLE
    "local out, dead, published = {}, 0, 0\n"
    "for i = 0, (#KEYS - 3) / 4 - 1 do\n"
    "  local grave, reasons, rkey = KEYS[4 + 4 * i], KEYS[5 + 4 * i], KEYS[6 + 4 * i]\n"
    "  local a = 3 + 7 * i\n"
    "  local field, px = ARGV[a], ARGV[a + 4]\n"
    "  local value = redis.call('HGET', KEYS[1], field)\n"
    "  if not value then out[#out + 1] = 0\n"
    "  elseif not (fits(grave, 'list') and fits(reasons, 'hash')) then\n"
    "    out[#out + 1] = 'WRONGTYPE the dead cannot be kept in ' .. grave\n"
    "  else\n"
    "    local success, bad = false, nil\n"
    "    if px ~= '' then success, bad = in_results(is_success, rkey) end\n"
    "    if bad then return bad end\n"
    "    redis.call('HDEL', KEYS[1], field)\n"
    "    redis.call('ZREM', KEYS[2], field)\n"
    "    local element = string.sub(value, 2, -1 - tonumber(ARGV[a + 1]))\n"
    "    redis.call('LPUSH', grave, element)\n"
    "    redis.call('HSET', reasons, redis.sha1hex(element), ARGV[a + 3])\n"
    "    if px ~= '' and not success then in_results(keep, rkey, px, ARGV[a + 5]) end\n"
    "    if ARGV[a + 6] == '1' then settle(KEYS[7 + 4 * i], field, 'r') end\n"
    "    dead = dead + 1\n"
    "    if ARGV[a + 2] == '1' then published = published + 1 end\n"
    "    out[#out + 1] = 1\n"
    "  end\n"
    "end\n"
    "count(KEYS[3], 'dead', dead)\n"
    "count(KEYS[3], 'published', published)\n"
    "return out\n";

/* Hands leased messages back. KEYS unacked, unacked_index, delayed, delayed:messages, then per item
 * its destinations. ARGV per item: field, latest score ('' any), mode (l back, r front, d delayed),
 * number of destinations, payload, due, tag. Returns per item 1, 0 (renewed, or gone: then its
 * score goes too), or an error text. S3, S8. */
static const char move[] = LUA_FITS LUA_DELAY
    "local out, k, a = {}, 5, 1\n"
    "while a <= #ARGV do\n"
    "  local field, limit, mode = ARGV[a], ARGV[a + 1], ARGV[a + 2]\n"
    "  local n, verdict = tonumber(ARGV[a + 3]), 1\n"
    "  if limit ~= '' then\n"
    "    local score = redis.call('ZSCORE', KEYS[2], field)\n"
    "    if score and tonumber(score) > tonumber(limit) then verdict = 0 end\n"
    "  end\n"
    "  for j = 0, n - 1 do\n"
    "    if not fits(KEYS[k + j], mode == 'd' and 'zset' or 'list') then\n"
    "      verdict = 'WRONGTYPE message cannot be handed back to ' .. KEYS[k + j]\n"
    "    end\n"
    "  end\n"
    "  if verdict == 1 then\n"
    "    redis.call('ZREM', KEYS[2], field)\n"
    "    verdict = redis.call('HDEL', KEYS[1], field)\n"
    "  end\n"
    "  if verdict == 1 then\n"
    "    for j = 0, n - 1 do\n"
    "      if mode == 'd' then\n"
    "        delay(KEYS[3], KEYS[4], KEYS[k + j], ARGV[a + 5], ARGV[a + 6], ARGV[a + 4])\n"
    "      else\n"
    "        redis.call(mode == 'l' and 'LPUSH' or 'RPUSH', KEYS[k + j], ARGV[a + 4])\n"
    "      end\n"
    "    end\n"
    "  end\n"
    "  out[#out + 1] = verdict\n"
    "  k, a = k + n, a + 7\n"
    "end\n"
    "return out\n";

/* KEYS unacked_index, celeriac:bulk. ARGV latest score, offset, limit. Returns the earliest score
 * that is later, or '', pairs of name and value of what is leased in bulk, and pairs of field and
 * score, latest first. */
static const char sweep[] =
    "local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES',\n"
    "  'LIMIT', 0, 1)\n"
    "local out = redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', 'WITHSCORES',\n"
    "  'LIMIT', ARGV[2], ARGV[3])\n"
    "local bulk = redis.pcall('HGETALL', KEYS[2])\n"
    "table.insert(out, 1, bulk.err and {} or bulk)\n"
    "table.insert(out, 1, later[2] or '')\n"
    "return out\n";

/* Delayed messages whose time has come. KEYS delayed, delayed:messages, then per item: list, the
 * queue's own index. ARGV tags. Returns how many moved. S8. */
static const char due[] =
    LUA_FITS "local moved = 0\n"
             "for i = 1, #ARGV do\n"
             "  local list, own = KEYS[1 + 2 * i], KEYS[2 + 2 * i]\n"
             "  if fits(list, 'list') and redis.call('ZREM', KEYS[1], ARGV[i]) == 1 then\n"
             "    local envelope = redis.call('HGET', KEYS[2], ARGV[i])\n"
             "    redis.call('ZREM', own, ARGV[i])\n"
             "    redis.call('HDEL', KEYS[2], ARGV[i])\n"
             "    if envelope then\n"
             "      redis.call('LPUSH', list, envelope)\n"
             "      moved = moved + 1\n"
             "    end\n"
             "  end\n"
             "end\n"
             "return moved\n";

/* KEYS unacked, then dedup keys. ARGV life of an `h`, then per item: field, id. Returns per item a
 * number, 0 refused or 1 won; or a letter and an id, d done by it, h held by it; or an error text.
 * A key of a wrong type is that item's error, before anything of it was written. S3, S10. */
static const char claim[] =
    "local out = {}\n"
    "for i = 2, #KEYS do\n"
    "  local field, id = ARGV[2 * i - 2], ARGV[2 * i - 1]\n"
    "  local verdict, v = 1, redis.pcall('GET', KEYS[i])\n"
    "  if redis.call('HEXISTS', KEYS[1], field) == 0 then verdict = 0\n"
    "  elseif type(v) == 'table' then verdict = 'e' .. v.err\n"
    "  elseif v then\n"
    "    local mode, owner, holder = string.sub(v, 1, 1), string.sub(v, 2), nil\n"
    "    if mode == 'h' then\n"
    "      local n, at = string.match(v, '^h(%d+):()')\n"
    "      if n then holder, owner = string.sub(v, at, at + n - 1), string.sub(v, at + n) end\n"
    "    end\n"
    "    if mode == 'd' then verdict = 'd' .. owner\n"
    "    elseif mode == 'k' and owner ~= id then verdict = 'h' .. owner\n"
    "    elseif holder and holder ~= field\n"
    "      and redis.call('HEXISTS', KEYS[1], holder) == 1 then\n"
    "      redis.call('PEXPIRE', KEYS[i], ARGV[1])\n"
    "      verdict = 'h' .. owner\n"
    "    end\n"
    "  end\n"
    "  if verdict == 1 then\n"
    "    redis.call('SET', KEYS[i], 'h' .. #field .. ':' .. field .. id, 'PX', ARGV[1])\n"
    "  end\n"
    "  out[#out + 1] = verdict\n"
    "end\n"
    "return out\n";

/* KEYS result keys. ARGV broker db, result db, then per item: px, document. Returns the numbers of
 * the items that met a stored SUCCESS. S5, S9. */
static const char store[] =
    LUA_IS_SUCCESS "local kept = {}\n"
                   "for i = 1, #KEYS do\n"
                   "  if not in_results(keep, KEYS[i], ARGV[2 * i + 1], ARGV[2 * i + 2]) then\n"
                   "    kept[#kept + 1] = i - 1\n"
                   "  end\n"
                   "end\n"
                   "return kept\n";

/* KEYS result keys. ARGV broker db, result db. S9. */
static const char get[] = "if ARGV[2] ~= '' then redis.call('SELECT', ARGV[2]) end\n"
                          "local out = redis.call('MGET', unpack(KEYS))\n"
                          "if ARGV[2] ~= '' then redis.call('SELECT', ARGV[1]) end\n"
                          "return out\n";

static const char forget[] = "if ARGV[2] ~= '' then redis.call('SELECT', ARGV[2]) end\n"
                             "local n = redis.call('DEL', unpack(KEYS))\n"
                             "if ARGV[2] ~= '' then redis.call('SELECT', ARGV[1]) end\n"
                             "return n\n";

/* KEYS totals, unacked, delayed, queues, sent, celeriac:bulk, then every list. Returns the number
 * of known queues (to see that none came in between), waiting, leased, delayed, what producers
 * count themselves, and the counters. */
static const char totals[] = LUA_LEFT_IN_BULK
    "local waiting, sent, leased = 0, 0, redis.call('HLEN', KEYS[2])\n"
    "for i = 7, #KEYS do\n"
    "  local n = redis.pcall('LLEN', KEYS[i])\n"
    "  if type(n) == 'number' then waiting = waiting + n end\n"
    "end\n"
    "for _, n in ipairs(redis.call('HVALS', KEYS[5])) do sent = sent + n end\n"
    "for _, v in ipairs(redis.call('HVALS', KEYS[6])) do leased = leased + left_in_bulk(v) end\n"
    "local out = {redis.call('SCARD', KEYS[4]), waiting, leased,\n"
    "  redis.call('ZCARD', KEYS[3]), sent}\n"
    "for _, v in ipairs(redis.call('HGETALL', KEYS[1])) do out[#out + 1] = v end\n"
    "return out\n";

/* KEYS unacked, celeriac:bulk, then per queue: four lists, its index of delayed, dead, unknown.
 * Returns per queue waiting, delayed, dead, unknown; then pairs of the end of a recorded value (its
 * quoted routing key) and how many have it. */
static const char queues[] = LUA_LEFT_IN_BULK
    "local function len(command, key)\n"
    "  local n = redis.pcall(command, key)\n"
    "  return type(n) == 'number' and n or 0\n"
    "end\n"
    "local out, leased = {}, {}\n"
    "for i = 3, #KEYS, 7 do\n"
    "  local waiting = 0\n"
    "  for j = 0, 3 do waiting = waiting + len('LLEN', KEYS[i + j]) end\n"
    "  out[#out + 1] = waiting\n"
    "  out[#out + 1] = len('ZCARD', KEYS[i + 4])\n"
    "  out[#out + 1] = len('LLEN', KEYS[i + 5])\n"
    "  out[#out + 1] = len('LLEN', KEYS[i + 6])\n"
    "end\n"
    "local function add(v, n)\n"
    "  local key = string.match(string.sub(v, -2000), '(\"[^\"]*\")%]$') or ''\n"
    "  leased[key] = (leased[key] or 0) + n\n"
    "end\n"
    "for _, v in ipairs(redis.call('HVALS', KEYS[1])) do add(v, 1) end\n"
    "for _, v in ipairs(redis.call('HVALS', KEYS[2])) do add(v, left_in_bulk(v)) end\n"
    "for key, n in pairs(leased) do\n"
    "  out[#out + 1] = key\n"
    "  out[#out + 1] = n\n"
    "end\n"
    "return out\n";

/* KEYS unacked, delayed:messages, the queue's index of delayed, four lists, celeriac:bulk (the
 * lists that it names are not known before). ARGV limit, quoted queue name. Returns quadruples: w,
 * d or l; priority or tag; due; envelope (l: recorded value). */
static const char peek[] =
    "local out, left = {}, tonumber(ARGV[1])\n"
    "local function row(state, priority, time, envelope)\n"
    "  if left <= 0 or not envelope then return end\n"
    "  out[#out + 1] = state\n"
    "  out[#out + 1] = priority\n"
    "  out[#out + 1] = time\n"
    "  out[#out + 1] = envelope\n"
    "  left = left - 1\n"
    "end\n"
    "for i = 0, 3 do\n"
    "  if left > 0 then\n"
    "    local v = redis.call('LRANGE', KEYS[4 + i], -left, -1)\n"
    "    for j = #v, 1, -1 do row('w', 3 * i, '0', v[j]) end\n"
    "  end\n"
    "end\n"
    "if left > 0 then\n"
    "  local v = redis.call('ZRANGE', KEYS[3], 0, left - 1, 'WITHSCORES')\n"
    "  for j = 1, #v, 2 do row('d', v[j], v[j + 1], redis.call('HGET', KEYS[2], v[j])) end\n"
    "end\n"
    "if left > 0 then\n"
    "  local tail = ARGV[2] .. ']'\n"
    "  for _, v in ipairs(redis.call('HVALS', KEYS[1])) do\n"
    "    if string.sub(v, -#tail) == tail then row('l', 0, '0', v) end\n"
    "  end\n"
    "  local bulk = redis.call('HGETALL', KEYS[8])\n"
    "  for j = 1, #bulk, 2 do\n"
    "    local marks, first, behind = string.match(bulk[j + 1], '^([-x]+) (-?%d+) %S+ (.*)')\n"
    "    local some = left > 0 and marks and string.sub(behind, -#tail) == tail\n"
    "    local list = KEYS[8] .. ':' .. bulk[j]\n"
    "    local v = some and redis.call('LRANGE', list, 0, #marks - 1) or {}\n"
    "    for i = 1, #v do\n"
    "      local m = v[tonumber(first) < 0 and #v + 1 - i or i]\n"
    "      if string.byte(marks, i) == 45 then row('l', 0, '0', '[' .. m .. behind) end\n"
    "    end\n"
    "  end\n"
    "end\n"
    "return out\n";

/* KEYS totals, delayed, delayed:messages, the queue's index of delayed, four lists. Returns how
 * many went. S7, S8. */
static const char purge[] =
    LUA_COUNT "local n = 0\n"
              "for i = 5, 8 do\n"
              "  n = n + redis.call('LLEN', KEYS[i])\n"
              "  redis.call('DEL', KEYS[i])\n"
              "end\n"
              "for _, tag in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do\n"
              "  redis.call('ZREM', KEYS[2], tag)\n"
              "  redis.call('HDEL', KEYS[3], tag)\n"
              "  n = n + 1\n"
              "end\n"
              "redis.call('DEL', KEYS[4])\n"
              "count(KEYS[1], 'failed', n)\n"
              "count(KEYS[1], 'purged', n)\n"
              "return n\n";

/* KEYS queues, binding, the queue's index of delayed, four lists. ARGV queue. 1 when it held
 * nothing and is forgotten. */
static const char drop[] = "for i = 3, 7 do\n"
                           "  if redis.call('EXISTS', KEYS[i]) == 1 then return 0 end\n"
                           "end\n"
                           "redis.call('DEL', KEYS[2])\n"
                           "return redis.call('SREM', KEYS[1], ARGV[1])\n";

/* KEYS pairs of grave and its reasons. ARGV limit. Returns quadruples: number of the pair, size,
 * digest, reason or ''; oldest first. */
static const char dead[] = "local out, left = {}, tonumber(ARGV[1])\n"
                           "for i = 1, #KEYS, 2 do\n"
                           "  if left <= 0 then break end\n"
                           "  local v = redis.call('LRANGE', KEYS[i], -left, -1)\n"
                           "  for j = #v, 1, -1 do\n"
                           "    local sha = redis.sha1hex(v[j])\n"
                           "    out[#out + 1] = (i - 1) / 2\n"
                           "    out[#out + 1] = #v[j]\n"
                           "    out[#out + 1] = sha\n"
                           "    out[#out + 1] = redis.call('HGET', KEYS[i + 1], sha) or ''\n"
                           "    left = left - 1\n"
                           "  end\n"
                           "end\n"
                           "return out\n";

/* KEYS grave, its reasons. ARGV beginning of a digest. Returns digest, reason, element, or nothing.
 */
static const char exhume[] = "local at = -1\n"
                             "while true do\n"
                             "  local v = redis.call('LRANGE', KEYS[1], at - 99, at)\n"
                             "  for j = #v, 1, -1 do\n"
                             "    local sha = redis.sha1hex(v[j])\n"
                             "    if string.sub(sha, 1, #ARGV[1]) == ARGV[1] then\n"
                             "      return {sha, redis.call('HGET', KEYS[2], sha) or '', v[j]}\n"
                             "    end\n"
                             "  end\n"
                             "  if #v < 100 then return {} end\n"
                             "  at = at - 100\n"
                             "end\n";

/* KEYS totals, grave, its reasons, then per item its destination. ARGV retry or rm, then elements.
 * Returns how many left the grave. S7. */
static const char unbury[] = LUA_FITS LUA_COUNT
    "local n, retry = 0, ARGV[1] == 'retry'\n"
    "for i = 2, #ARGV do\n"
    "  local dest = KEYS[2 + i]\n"
    "  if (not retry or fits(dest, 'list')) and redis.call('LREM', KEYS[2], -1, ARGV[i]) == 1 "
    "then\n"
    "    redis.call('HDEL', KEYS[3], redis.sha1hex(ARGV[i]))\n"
    "    if retry then redis.call('LPUSH', dest, ARGV[i]) end\n"
    "    n = n + 1\n"
    "  end\n"
    "end\n"
    "if retry then count(KEYS[1], 'dead', -n) else count(KEYS[1], 'removed', n) end\n"
    "return n\n";

static const char *const texts[REDIS_SCRIPTS] = {
    [REDIS_SCRIPT_PUBLISH] = publish,
    [REDIS_SCRIPT_PUSH] = push,
    [REDIS_SCRIPT_TAKE_BACK] = take_back,
    [REDIS_SCRIPT_SENT] = sent,
    [REDIS_SCRIPT_SENT_SWEEP] = sent_sweep,
    [REDIS_SCRIPT_FETCH] = fetch,
    [REDIS_SCRIPT_FINISH] = finish,
    [REDIS_SCRIPT_FINISH_BULK] = finish_bulk,
    [REDIS_SCRIPT_UNBULK] = unbulk,
    [REDIS_SCRIPT_NOTE] = note,
    [REDIS_SCRIPT_RENEW] = renew,
    [REDIS_SCRIPT_BURY] = bury,
    [REDIS_SCRIPT_MOVE] = move,
    [REDIS_SCRIPT_SWEEP] = sweep,
    [REDIS_SCRIPT_DUE] = due,
    [REDIS_SCRIPT_CLAIM] = claim,
    [REDIS_SCRIPT_STORE] = store,
    [REDIS_SCRIPT_GET] = get,
    [REDIS_SCRIPT_FORGET] = forget,
    [REDIS_SCRIPT_TOTALS] = totals,
    [REDIS_SCRIPT_QUEUES] = queues,
    [REDIS_SCRIPT_PEEK] = peek,
    [REDIS_SCRIPT_PURGE] = purge,
    [REDIS_SCRIPT_DROP] = drop,
    [REDIS_SCRIPT_DEAD] = dead,
    [REDIS_SCRIPT_EXHUME] = exhume,
    [REDIS_SCRIPT_UNBURY] = unbury,
};

const char *redis_script_text(enum redis_script_id id)
{
    return texts[id];
}

void redis_script_sha(enum redis_script_id id, char out[REDIS_SHA_SIZE])
{
    struct sha1_ctx ctx;
    uint8_t digest[SHA1_DIGEST_SIZE];

    sha1_init(&ctx);
    sha1_update(&ctx, strlen(texts[id]), (const uint8_t *)texts[id]);
    sha1_digest(&ctx, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}
