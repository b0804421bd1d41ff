-- The well-behaved part of the sample's traffic, for wrk: visitors who open a page, follow links and send forms.
--
--   wrk -s load.lua ... URL -- SEED DELAY_MS
--
-- A visitor is an address, a user agent and perhaps a login, kept for a number of requests; pages are drawn with a
-- skew, as real ones are. That also keeps the log compressible.

local counter = 0
function setup(thread)
   counter = counter + 1
   thread:set("number", counter)
end

local AGENTS = {
   "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
   "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
   "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
   "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
   "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
   "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
   "curl/7.88.1",
   "python-requests/2.31.0",
   "Wget/1.21.3",
   [[Reader "Home Edition" 2.0]],
   [[C:\Program Files\Fetch\fetch.exe "quoted \" twice"]],
   [[back\\slash\x41\]],
   "Браузер/1.0 (тест; ελληνικά; 日本語; émigré)",
   "\xff\xfe invalid \xc0\xaf bytes \xed\xa0\x80",
   "tab\there",
   "-",
   "",
}

local LOGINS = {"YWxpY2U6d29uZGVybGFuZA==", "Ym9iOmJ1aWxkZXI=", "YWxpY2U6d3Jvbmc="}  -- alice, bob, alice with a wrong password

-- 1..n, small numbers far more often than large ones.
local function skewed(n)
   return 1 + math.floor(n * math.random() ^ 3)
end

local function address()
   local kind, host = math.random(8), skewed(254)
   if kind == 1 then return string.format("2001:db8:%x::%x", skewed(16), host) end
   if kind <= 3 then return "198.51.100." .. host end
   if kind <= 5 then return "203.0.113." .. host end
   return "192.0.2." .. host
end

local visitor
local function arrive()
   visitor = {
      left = 4 + skewed(30),
      at = nil,
      address = math.random(12) > 1 and address() or nil,
      agent = AGENTS[skewed(#AGENTS)],
      login = math.random(15) == 1 and LOGINS[math.random(#LOGINS)] or nil,
   }
end

local function page() return "/article/" .. skewed(900) end
local function product() return "/product/" .. skewed(400) .. "?color=red" end
local function static() return "/static/asset-" .. skewed(60) .. ".png" end
local function search() return "/search?q=" .. ({"queue", "worker", "broker", "caf%C3%A9", "a+b", "%22x%22"})[skewed(6)] .. "&page=" .. skewed(9) end
local function api() return "/api/" .. ({"fast", "medium", "slow"})[skewed(3)] .. "?id=" .. skewed(20) end

-- weight, path, method (GET), headers, body. wrk waits for the body of a HEAD, so the server has to close.
local KINDS = {
   {300, page}, {120, product}, {230, static}, {60, search}, {90, function() return "/" end},
   {60, static, "GET", {["If-Modified-Since"] = "Fri, 31 Dec 2100 23:59:59 GMT"}},
   {12, static, "GET", {["Range"] = "bytes=100-299"}},
   {25, api}, {12, function() return "/api/form" end, "POST", {["Content-Type"] = "application/x-www-form-urlencoded"}, "name=x&text=" .. string.rep("y", 300)},
   {12, page, "HEAD", {["Connection"] = "close"}}, {25, function() return "/missing/" .. skewed(40) end}, {15, function() return "/old/" .. skewed(30) end},
   {12, function() return "/go/" .. skewed(12) end}, {10, function() return "/private/" .. skewed(9) end}, {18, function() return "/account/" .. skewed(6) end},
   {3, page, "POST", {}, "a=b"}, {4, function() return "/api/upload" end, "POST", {}, string.rep("z", 5000)}, {2, page, "DELETE"}, {1, page, "PROPFIND"},
   {3, function() return "/api/fail" end}, {3, function() return "/api/drop" end}, {2, function() return "/dead/1" end}, {3, function() return "/broken/" .. skewed(3) end},
   {2, function() return "/gone/1" end}, {1, function() return "/teapot" end}, {6, function() return "/limited/" .. skewed(3) end}, {2, function() return "/api/busy" end},
   {1, function() return "/article/\xd1\x81\xd1\x82\xd1\x80/" .. skewed(9) end}, {1, function() return '/tag/"quoted"/' .. skewed(9) end},
   {1, function() return [[/tag/back\slash/]] .. skewed(9) end}, {1, function() return "/tag/%00%ff/" .. skewed(9) end},
   {1, function() return "/tag/1?" end}, {1, function() return "/tag/2?a?b#c" end}, {1, function() return "/closed/1" end},
}
local total = 0
for _, kind in ipairs(KINDS) do total = total + kind[1] end

local function choose()
   local left = math.random(total)
   for _, kind in ipairs(KINDS) do
      left = left - kind[1]
      if left <= 0 then return kind end
   end
end

local pause_ms = 0
function init(args)
   math.randomseed(tonumber(args[1] or "1") * 1000 + number)
   pause_ms = tonumber(args[2] or "0")
   if pause_ms <= 0 then delay = nil end
end

function delay()
   return math.random(0, 2 * pause_ms)
end

function request()
   if not visitor or visitor.left == 0 then arrive() end
   visitor.left = visitor.left - 1
   local kind = choose()
   local path = kind[2]()
   local headers = {["Host"] = "www.example.org", ["X-Real-IP"] = visitor.address, ["Referer"] = visitor.at}
   if visitor.agent ~= "" then headers["User-Agent"] = visitor.agent end
   if visitor.login then headers["Authorization"] = "Basic " .. visitor.login end
   for key, value in pairs(kind[4] or {}) do headers[key] = value end
   if kind[2] == page then visitor.at = "https://www.example.org" .. path end
   return wrk.format(kind[3] or "GET", path, headers, kind[5])
end
