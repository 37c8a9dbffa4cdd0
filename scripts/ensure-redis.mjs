// Makes sure that the tests find a real Redis: redis-server on the PATH, or REDIS_URL. As root on Debian it installs one; elsewhere
// one line says what to do. No test is skipped for lack of Redis. It also installs Valkey where it can.
import { spawnSync } from 'node:child_process'
import { connect } from 'node:net'

/** Returns the first line that the command prints; undefined if it cannot run. */
function firstLine(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? stdout.split('\n', 1)[0] : undefined
}

const version = () => firstLine('redis-server', ['--version'])?.replace(/^Redis server v=(\S+).*/, '$1')

/** Resolves with true if a Redis answers at the URL. A demand for a password is an answer, too. */
function answers(url) {
  return new Promise((resolve) => {
    const socket = connect(Number(url.port || 6379), url.hostname)
    socket.setTimeout(3000, () => socket.destroy())
    socket.on('connect', () => socket.write('PING\r\n'))
    socket.on('data', (data) => {
      resolve(/^(\+PONG|-NOAUTH)/.test(data.toString('latin1')))
      socket.destroy()
    })
    socket.on('error', () => resolve(false))
    socket.on('close', () => resolve(false))
  })
}

function fail(line) {
  console.error(line)
  process.exit(1)
}

const onDebianAsRoot = () => process.getuid?.() === 0 && firstLine('apt-get', ['--version']) !== undefined

const apt = (...args) => spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' })

function installWithApt() {
  const install = () => apt('install', '-y', '--no-install-recommends', 'redis-server')
  // The package lists may be absent or old; they are only fetched when the first try fails.
  if (install().status === 0) return
  apt('update')
  const { status, stderr } = install()
  if (status !== 0) fail(`apt-get install redis-server failed: ${stderr.trim().split('\n').at(-1)}`)
}

const redisUrl = process.env.REDIS_URL
if (version() !== undefined) {
  console.log(`redis-server ${version()} on the PATH`)
} else if (redisUrl !== undefined && redisUrl !== '') {
  if (!URL.canParse(redisUrl)) fail('REDIS_URL is not a URL; write it like redis://127.0.0.1:6379')
  const { host } = new URL(redisUrl)
  if (!(await answers(new URL(redisUrl))))
    fail(`no Redis answers at ${host} (REDIS_URL); start it, or install redis-server`)
  console.log(`Redis at ${host} (REDIS_URL)`)
} else if (onDebianAsRoot()) {
  installWithApt()
  if (version() === undefined)
    fail('apt-get installed redis-server, but it is not on the PATH; add its folder to PATH')
  console.log(`redis-server ${version()} installed with apt-get`)
} else {
  fail(
    'the tests need Redis: install redis-server (Debian: apt-get install redis-server, macOS: brew install redis) or set REDIS_URL',
  )
}

// The limiter's suites run on Valkey, too, where there is one. It is no reason to fail.
const valkey = () => firstLine('valkey-server', ['--version'])?.replace(/^Valkey server v=(\S+).*/, '$1')
if (valkey() === undefined && onDebianAsRoot())
  apt('install', '-y', '--no-install-recommends', 'valkey-server')
if (valkey() !== undefined) console.log(`valkey-server ${valkey()} on the PATH`)
