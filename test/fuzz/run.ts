import { parseArgs } from 'node:util'
import fc from 'fast-check'
import { TARGETS } from './list.js'
import { partsTried, type Target, watchForCrashes } from './target.js'

/**
 * Runs `npm run fuzz`: feeds hostile inputs to everything that reads what others write, for as long as you say. Exit code 1 means that
 * something did not hold; it then prints the smallest input that shows it, and how to try it again.
 */

const USAGE = `npm run fuzz -- [--seconds N] [--only NAME,…] [--seed N] [--path P]

  --seconds N   how long in all (60)
  --only NAME   some of them: ${TARGETS.map(({ name }) => name).join(', ')}
  --seed N      the inputs of another run; without it they are new ones
  --path P      of that run only the input that failed
`

const teardowns: (() => unknown)[] = []
const cleanup = { teardown: (fn: () => unknown) => void teardowns.unshift(fn) }

async function run(target: Target, ms: number, seed: number, path: string | undefined): Promise<boolean> {
  const started = performance.now()
  const before = partsTried()
  const property = await target.open(cleanup)
  const result = await fc.check(property, {
    seed,
    numRuns: path === undefined ? Number.MAX_SAFE_INTEGER : 1,
    ...(path === undefined ? { interruptAfterTimeLimit: ms } : { path, endOnFailure: true }),
  })
  for (const fn of teardowns.splice(0)) await fn()
  const took = `${((performance.now() - started) / 1000).toFixed(1)} s`
  const mark = result.failed ? 'FAIL' : 'ok  '
  console.log(
    `${mark} ${target.name.padEnd(14)} ${took.padStart(7)}  ${partsTried() - before} in ${result.numRuns} inputs: ${target.what}`,
  )
  if (!result.failed) return true
  const error = result.errorInstance as Error | undefined
  console.log(`\n${error?.stack ?? String(error)}\n\nwith ${fc.stringify(result.counterexample?.[0])}\n`)
  console.log(
    `again: npm run fuzz -- --only ${target.name} --seed ${seed} --path ${result.counterexamplePath}\n`,
  )
  return false
}

async function main(): Promise<number> {
  const options = {
    seconds: { type: 'string', default: '60' },
    only: { type: 'string' },
    seed: { type: 'string' },
    path: { type: 'string' },
    help: { type: 'boolean' },
  } as const
  let values: ReturnType<typeof parseArgs<{ options: typeof options }>>['values']
  try {
    values = parseArgs({ options }).values
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`)
    return 2
  }
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  const names = values.only?.split(',')
  const unknown = names?.find((name) => !TARGETS.some((target) => target.name === name))
  const seconds = Number(values.seconds)
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
  if (unknown !== undefined || !(seconds > 0) || !Number.isSafeInteger(seed)) {
    console.error(
      `${unknown === undefined ? '--seconds and --seed take a number' : `there is no ${unknown}`}\n\n${USAGE}`,
    )
    return 2
  }
  const targets = TARGETS.filter(({ name }) => names === undefined || names.includes(name))
  console.log(`seed ${seed}`)
  watchForCrashes()
  let held = true
  for (const target of targets) {
    held = (await run(target, (seconds * 1000) / targets.length, seed, values.path)) && held
  }
  console.log(held ? 'all held' : 'something did not hold: see FAIL above')
  return held ? 0 : 1
}

// A failure in here is no finding, and the watch for crashes would hide it. Nobody owns connections that an input left half open.
process.exit(
  await main().catch((error) => {
    console.error(error)
    return 1
  }),
)
