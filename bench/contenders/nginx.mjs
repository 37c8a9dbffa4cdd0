/** nginx as a contender: a proxy in C without a limit, and one that limits with Lua and Redis. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { GATEWAY_CORE } from '../harness/machine.mjs'
import { accepts, freePort, start, until } from '../harness/process.mjs'

const here = fileURLToPath(new URL('nginx/', import.meta.url))
/** Path on Debian. */
const MODULES = '/usr/lib/nginx/modules'
const CLIENT = '/usr/share/lua/5.1/nginx/redis.lua'

export const hasNginx = () => spawnSync('sh', ['-c', 'command -v nginx']).status === 0
export const hasNginxLua = () =>
  hasNginx() && existsSync(`${MODULES}/ngx_http_lua_module.so`) && existsSync(CLIENT)

/**
 * Access log on, one process, no metrics, connections kept on both sides. `limited`: Lua asks Redis before each request.
 * `tls`: a certificate to serve HTTPS with, and with `http2` over HTTP/2, too.
 */
export async function startNginx({
  dir: parent,
  upstreamPort,
  redisPort,
  services,
  limited = false,
  tls,
  http2 = false,
}) {
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
  // The cipher that Tidegate prefers, sessions as the documentation of ngx_http_ssl_module proposes, and records that hold 10 KB.
  const encryption =
    tls === undefined
      ? ''
      : `
    ssl_certificate ${tls.cert}; ssl_certificate_key ${tls.key}; ssl_protocols TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_session_cache shared:SSL:10m; ssl_session_timeout 10m; ssl_buffer_size 16k;
    ${http2 ? 'http2 on;' : ''}`
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
    listen 127.0.0.1:${port} ${tls === undefined ? '' : 'ssl '}backlog=8192;${encryption}
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
  await until('nginx answers', 5000, () => accepts(port))
  return {
    name,
    child,
    pid: child.pid,
    url: `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
    decisionCommand: limited ? 'get' : undefined,
  }
}
