-- A GET per call, the consumer taken in turn from as many as BENCH_CONSUMERS says. Requests are made once, so that
-- what is measured is not this script. Prints one line of JSON for run.mjs.
local requests, n, at = {}, tonumber(os.getenv('BENCH_CONSUMERS')), 0

function init(args)
  local path = wrk.path
  for i = 1, n do
    requests[i] = wrk.format('GET', path .. '/orders/' .. i, { ['X-User-Id'] = string.format('user-%06d', i), ['Accept'] = 'application/json' })
  end
end

function request()
  at = at % n + 1
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nBENCH {"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50":%.3f,"p99":%.3f}\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
