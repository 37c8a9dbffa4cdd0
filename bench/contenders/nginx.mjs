/** nginx as a contender: a proxy in C without a limit, and one that limits with Lua and Redis. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { GATEWAY_CORE } from '../harness/machine.mjs'
import { freePort, start, until } from '../harness/process.mjs'

const here = fileURLToPath(new URL('nginx/', import.meta.url))
/** Path on Debian. */
const MODULES = '/usr/lib/nginx/modules'
const CLIENT = '/usr/share/lua/5.1/nginx/redis.lua'

export const hasNginx = () => spawnSync('sh', ['-c', 'command -v nginx']).status === 0
export const hasNginxLua = () =>
  hasNginx() && existsSync(`${MODULES}/ngx_http_lua_module.so`) && existsSync(CLIENT)

/** Access log on, one process, no metrics. `limited`: Lua asks Redis before each request. */
export async function startNginx({ dir: parent, upstreamPort, redisPort, services, limited = false }) {
  const name = limited ? 'nginx-lua' : 'nginx'
  const dir = path.join(parent, name)
  mkdirSync(dir, { recursive: true })
  const port = await freePort()
  const conf = path.join(dir, 'nginx.conf')
  const modules = limited
    ? `load_module ${MODULES}/ndk_http_module.so; load_module ${MODULES}/ngx_http_lua_module.so;`
    : ''
  const init = limited
    ? `
  lua_package_path '/usr/share/lua/5.1/?.lua;;';
  init_by_lua_block {
    require 'nginx.redis'
    local f = io.open('${here}sliding.lua')
    script_text = f:read('*a')
    f:close()
    script_sha = (function(s)
      local sum = ngx.sha1_bin(s)
      return (sum:gsub('.', function(c) return string.format('%02x', c:byte()) end))
    end)(script_text)
  }`
    : ''
  const location = ([service, limit]) => `
    location /${service}/ {
${
  limited
    ? `      set $service ${service}; set $limit ${limit}; set $redis_port ${redisPort};
      access_by_lua_file ${here}access.lua;`
    : ''
}
      proxy_pass http://backend/;
    }`
  writeFileSync(
    conf,
    `${modules}
daemon off; master_process off; pid ${dir}/nginx.pid; error_log ${dir}/error.log;
events { worker_connections 16384; }
http {
  access_log ${dir}/access.log combined buffer=64k flush=1s;
  client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy; client_max_body_size 10m;
  keepalive_requests 100000000;${init}
  upstream backend { server 127.0.0.1:${upstreamPort}; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port} backlog=8192;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header X-Request-Id $request_id;
    add_header X-Request-Id $request_id always;
${Object.entries(services).map(location).join('\n')}
  }
}
`,
  )
  const child = start(GATEWAY_CORE, 'nginx', ['-p', dir, '-c', conf, '-e', path.join(dir, 'error.log')])
  const url = `http://127.0.0.1:${port}`
  await until('nginx answers', 5000, () =>
    fetch(`${url}/none`).then(
      () => true,
      () => false,
    ),
  )
  return {
    name,
    child,
    pid: child.pid,
    url,
    decisionCommand: limited ? 'get' : undefined,
  }
}
