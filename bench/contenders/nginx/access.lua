-- Takes one request of the quota, in one round trip over a pooled connection; fails open, as Tidegate does by default.
local redis = require 'nginx.redis'
local limit, window, service = ngx.var.limit, 60000, ngx.var.service
local consumer = ngx.var.http_x_user_id or ngx.var.remote_addr

local client = redis:new()
client:set_timeout(100)
if not client:connect('127.0.0.1', tonumber(ngx.var.redis_port)) then return end
local key = 'rl:' .. service .. ':{' .. consumer .. '}:minute'
local reply, fault = client:evalsha(script_sha, 1, key, limit, window)
if not reply and fault and fault:find('NOSCRIPT', 1, true) then
  reply = client:eval(script_text, 1, key, limit, window)
end
if not reply then return end
client:set_keepalive(60000, 128)

local h = ngx.header
local seconds = math.max(1, math.ceil((reply[4] > 0 and reply[4] or reply[3]) / 1000))
h['RateLimit-Policy'] = '"minute";q=' .. limit .. ';w=60'
h['RateLimit'] = '"minute";r=' .. reply[2] .. ';t=' .. seconds
h['X-RateLimit-Limit'] = limit
h['X-RateLimit-Remaining'] = reply[2]
h['X-RateLimit-Reset'] = seconds
if reply[1] == 1 then return end
local body = '{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Quota exceeded","status":429,'
  .. '"detail":"The quota \\"minute\\" (' .. limit .. ' per 60 s) of tier free on ' .. service .. ' is used up; try again in '
  .. seconds .. ' s.","code":"quota_exceeded","violated-policies":["minute"],"request_id":"' .. ngx.var.request_id .. '"}'
ngx.status = 429
h['Retry-After'] = seconds
h['Content-Type'] = 'application/problem+json'
h['Content-Length'] = #body
h['Cache-Control'] = 'no-store'
ngx.print(body)
return ngx.exit(429)
