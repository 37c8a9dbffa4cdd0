/** The machine under the bench: two cores, their accounting, and the tools that npm does not install. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import os from 'node:os'

/** The gateway under test has a core to itself; load, upstream and Redis share the other. */
export const GATEWAY_CORE = 0
export const LOAD_CORE = 1

const has = (command) => spawnSync('sh', ['-c', `command -v ${command}`]).status === 0

/** Throws one line for the operator if something is missing that the bench cannot install itself. */
export function requireTools({ wrk }) {
  if (!existsSync('/proc/self/stat') || !has('taskset')) {
    throw new Error('the bench reads /proc and pins processes with taskset: run it on Linux with util-linux')
  }
  if (os.cpus().length < 2)
    throw new Error('the bench needs two cores: one for the gateway, one for the load')
  for (const [command, debian] of [['redis-server', 'redis-server'], ...(wrk ? [['wrk', 'wrk']] : [])]) {
    if (has(command)) continue
    if (process.getuid() === 0 && has('apt-get')) {
      console.log(`${command} is missing: apt-get install -y ${debian}`)
      spawnSync('apt-get', ['install', '-y', '--no-install-recommends', debian], { stdio: 'ignore' })
    }
    if (!has(command))
      throw new Error(`${command} is missing: install it (Debian: apt-get install ${debian})`)
  }
}

/** Pins the bench's own process to the load's core, and with it children that have no core of their own. */
export function pinSelf() {
  execFileSync('taskset', ['-a', '-c', '-p', String(LOAD_CORE), String(process.pid)], { stdio: 'ignore' })
}

const tick = 1000 / Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }))

function children(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' ').filter(Boolean),
    )
  } catch {
    return []
  }
}

/** Returns the ms of user and system time of a process and its children, all threads, by the kernel's accounting. */
export function cpuMs(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const own = (Number(fields[11]) + Number(fields[12])) * tick
  return children(pid).reduce((sum, child) => sum + cpuMs(child), own)
}

/** Returns the ms since boot that a core was busy, and that the hypervisor took from us. */
function timesOf(core) {
  const line = readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .find((l) => l.startsWith(`cpu${core} `))
  const [user, nice, system, , , irq, softirq, steal] = line.split(/\s+/).slice(1).map(Number)
  return { busy: (user + nice + system + irq + softirq) * tick, stolen: steal * tick }
}

/**
 * Watches a core from now on. The returned function takes the CPU ms of the process under test, and tells which share of the core
 * went to others or was stolen: a disturbed figure should say so.
 */
export function watchCore(core) {
  const from = timesOf(core)
  const at = performance.now()
  return (ownMs) => {
    const to = timesOf(core)
    return Math.max(0, to.busy - from.busy - ownMs + to.stolen - from.stolen) / (performance.now() - at)
  }
}

/** Describes the machine in one line, for the report. */
export function shape(redisVersion, nodeVersion = process.versions.node) {
  const cpu = os.cpus()[0]
  return [
    new Date().toISOString().slice(0, 10),
    `${os.cpus().length} cores ${cpu.model.replace(/\s+/g, ' ')}`,
    `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    `Linux ${os.release().split('-')[0]}`,
    `Node ${nodeVersion}`,
    `Redis ${redisVersion}`,
  ].join(' · ')
}
