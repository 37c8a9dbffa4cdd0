import { spawnSync } from 'node:child_process'

export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Parses the Prometheus text format 0.0.4 strictly: throws at the first malformed line. */
export function parseExposition(text: string): {
  readonly series: Series[]
  readonly types: ReadonlyMap<string, string>
} {
  if (!text.endsWith('\n')) throw new Error('the last line has no newline')
  const types = new Map<string, string>()
  const helps = new Set<string>()
  const series: Series[] = []
  const seen = new Set<string>()
  let family = ''
  const finished = new Set<string>()
  for (const line of text.split('\n')) {
    if (line === '') continue
    const help = /^# HELP ([a-zA-Z_:][\w:]*) \S/.exec(line)
    if (help !== null) {
      if (helps.has(help[1]!)) throw new Error(`a second HELP of ${help[1]}`)
      helps.add(help[1]!)
      continue
    }
    const type = /^# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line)
    if (type !== null) {
      if (types.has(type[1]!)) throw new Error(`a second TYPE of ${type[1]}`)
      types.set(type[1]!, type[2]!)
      continue
    }
    if (line.startsWith('#')) throw new Error(`not HELP and not TYPE: ${line}`)
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (\S+)$/.exec(
      line,
    )
    if (sample === null) throw new Error(`not a sample: ${line}`)
    const [, name, inner, number] = sample
    const value =
      number === '+Inf'
        ? Number.POSITIVE_INFINITY
        : number === '-Inf'
          ? Number.NEGATIVE_INFINITY
          : Number(number)
    // prom-client writes Nan, and Prometheus reads NaN in any case
    if (Number.isNaN(value) && number?.toLowerCase() !== 'nan') throw new Error(`not a number: ${line}`)
    const identity = `${name}{${inner ?? ''}}`
    if (seen.has(identity)) throw new Error(`twice the same series: ${identity}`)
    seen.add(identity)
    const base = types.has(name!) ? name! : name!.replace(/_(?:bucket|sum|count)$/, '')
    if (!types.has(base) || !helps.has(base)) throw new Error(`no HELP or TYPE before ${line}`)
    if (base !== family && finished.has(base)) throw new Error(`the samples of ${base} do not stand together`)
    if (base !== family) finished.add(family)
    family = base
    series.push({ name: name!, labels: labelsOf(inner ?? ''), value })
  }
  return { series, types }
}

function labelsOf(inner: string): Record<string, string> {
  const pairs = [...inner.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)]
  return Object.fromEntries(pairs.map(([, name, value]) => [name!, value!]))
}

/** Returns the value of the one series with this name and at least these labels. */
export function sampleOf(
  text: string,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const found = parseExposition(text).series.filter(
    (one) =>
      one.name === name && Object.entries(labels).every(([label, value]) => one.labels[label] === value),
  )
  if (found.length > 1) throw new Error(`${found.length} series of ${name} have these labels`)
  return found[0]?.value
}

export const hasPromtool = spawnSync('promtool', ['--version']).error === undefined

/** Returns the complaints of `promtool check metrics`, empty if there are none. */
export function promtoolComplaints(text: string): string {
  const run = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
  return run.status === 0 ? run.stdout : `${run.stdout}${run.stderr}exit ${run.status}`
}
