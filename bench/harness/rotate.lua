-- A request per call, consumer and route taken in turn from as many as the environment says (see wrk.mjs). Requests are
-- made once, so that what is measured is not this script. Prints one line of JSON for wrk.mjs.
local requests, n, at = {}, 0, 0

function init(args)
  local path, tail = wrk.path, os.getenv('BENCH_TAIL')
  local consumers, routes, upload = tonumber(os.getenv('BENCH_CONSUMERS')), tonumber(os.getenv('BENCH_ROUTES')), tonumber(os.getenv('BENCH_UPLOAD'))
  local method, body = 'GET', nil
  if upload > 0 then method, body = 'POST', string.rep('x', upload) end
  n = math.max(consumers, routes)
  for i = 1, n do
    local route = routes > 0 and '/r' .. (i - 1) % routes or ''
    local user = string.format('user-%06d', (i - 1) % consumers + 1)
    requests[i] = wrk.format(method, path .. route .. '/' .. string.format(tail, i), { ['X-User-Id'] = user, ['Accept'] = 'application/json' }, body)
  end
end

function request()
  at = at % n + 1
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nBENCH {"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"bytes":%d,"p50":%.3f,"p99":%.3f}\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout, summary.bytes,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
