import cluster from 'node:cluster'
import { hostname } from 'node:os'
import { QUESTIONS } from '../admin/server.js'
import { SET_UPSTREAM } from '../admin/upstream-questions.js'
import { deferred } from '../common/wait.js'
import type { Snapshot } from '../config/snapshot/snapshot.js'
import { openStore } from '../fleet/open-store.js'
import type { RunningGateway } from '../main.js'
import { startGateway } from '../main.js'
import { type Answers, openChannel } from './channel.js'
import { type FollowedConfig, followConfig } from './follow.js'
import { type OfPrimary, type OfWorker, PROTOCOL } from './messages.js'
import { createFollowedMaps, type FollowedMaps } from './shared-maps.js'
import { createSharedMemory, type SharedMemory } from './shared-memory.js'

const DEADLINE_MS = 10_000
/** Timeout in ms for the last counts: a primary that does not listen must not keep a worker alive. */
const FAREWELL_MS = 1000

/** Runs a worker process: it serves until the primary tells it to stop, or is gone. */
export async function runWorker(): Promise<never> {
  const { promise: gateway, resolve: running } = deferred<RunningGateway>()
  let config: FollowedConfig | undefined
  let memory: SharedMemory | undefined
  let maps: FollowedMaps | undefined
  let leaving = false
  /** Returns the hash that the primary shows for this worker. */
  let hashOf = ({ hash }: Snapshot) => hash

  /** Drains and exits. `delayMs` undefined: the configured delay. */
  async function leave(delayMs?: number, code = 0): Promise<void> {
    if (leaving) return
    leaving = true
    const running = await gateway
    await running.close(delayMs)
    await primary.ask('farewell', await running.read(), FAREWELL_MS).catch(() => {})
    process.exit(code)
  }

  const answers: Answers<OfWorker> = {
    async reload(next) {
      // Changes that arrive during the start are applied after it.
      await gateway
      try {
        await config!.follow(next)
      } catch (error) {
        return { hash: hashOf(config!.current()), error: (error as Error).message }
      }
      return { hash: hashOf(config!.current()) }
    },
    put({ map, key, text }) {
      maps?.put(map, key, text)
      return null
    },
    metrics: async () => (await gateway).read(),
    drain({ delayMs }) {
      void leave(delayMs)
      return null
    },
  }
  const ofAdmin = QUESTIONS.map(({ name }) => {
    return [name, async (body: unknown) => (await gateway).answer(name, body)] as const
  })
  const primary = openChannel<OfPrimary>(process, { ...answers, ...Object.fromEntries(ofAdmin) })

  // Signals are for the primary, which informs its workers. A terminal, and systemd, send theirs to all processes.
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGUSR2'] as const) process.on(signal, () => {})
  process.on('SIGTERM', () => void leave())
  // A pipe that breaks during a send also emits an error event; `disconnect` follows.
  process.on('error', () => {})
  cluster.worker!.on('disconnect', () => {
    // Node would end the process here, with all requests in flight. No process hands connections over any more.
    cluster.worker!.exitedAfterDisconnect = true
    void leave(0)
  })

  try {
    const welcome = await primary.ask('hello', { protocol: PROTOCOL }, DEADLINE_MS)
    const { place, file, workers } = welcome
    // A primary of an older version shows the fingerprint as its own hash.
    if (welcome.gateway === undefined) hashOf = ({ fingerprint }) => fingerprint
    // Created before any other await: changes arrive from now on.
    const followed = createFollowedMaps(welcome.maps)
    maps = followed
    const started = await startGateway({
      configFile: file,
      member: {
        place,
        gateway: welcome.gateway ?? `${hostname()}:${process.ppid}~`,
        async openConfig(env, extensions, onReload) {
          const options = { file, env, extensions, onReload, onNext: (next: Snapshot) => memory?.know(next) }
          try {
            config = await followConfig(welcome.started, options)
          } catch {
            // A file that the configuration names may be gone by now.
            config = await followConfig(welcome.current, options)
          }
          return config
        },
        openStore(settings, log) {
          if (settings.redis !== undefined) return openStore(settings, log, { fleet: 'asks' })
          memory = createSharedMemory({ primary, maps: followed, workers, settings, log })
          memory.know(config!.current())
          return memory
        },
      },
    })
    await config!.follow({ ...welcome.current, trigger: 'file', result: 'applied' })
    // A primary of an older version does not send this list.
    for (const [service, address] of welcome.drained ?? [])
      started.answer(SET_UPSTREAM.name, { service, address, state: 'drained' })
    await primary.ask(
      'serving',
      { address: started.address, addresses: started.addresses, hash: hashOf(started.config.current()) },
      DEADLINE_MS,
    )
    running(started)
    // To the primary this is a crash: it starts another worker, with backoff.
    void started.exhausted.then(() => leave(undefined, 1))
  } catch (error) {
    await primary.ask('failed', { message: (error as Error).message }, FAREWELL_MS).catch(() => {})
    process.exit(1)
  }
  return new Promise(() => {})
}
