// Numbers and texts of the page. These functions need no document.

/** Returns the rate per second between two counts that are `ms` apart. A count that went down has restarted from 0. */
export function perSecond(before, after, ms) {
  const difference = after >= before ? after - before : after
  return ms > 0 ? (difference * 1000) / ms : 0
}

const grouped = new Intl.NumberFormat('en')
export function number(value) {
  return grouped.format(value)
}

export function rate(value) {
  if (value === 0) return '0'
  if (value < 0.05) return '<0.1'
  return value < 10 ? value.toFixed(1) : number(Math.round(value))
}

/** Formats a share of a whole, 0 to 1. */
export function percent(share) {
  if (share === 0) return '0 %'
  return share < 0.0005 ? '<0.1 %' : `${(share * 100).toFixed(1)} %`
}

export function milliseconds(value) {
  if (value === null) return '–'
  if (value >= 10_000) return `${(value / 1000).toFixed(0)} s`
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`
  return value < 10 ? `${value.toFixed(1)} ms` : `${value.toFixed(0)} ms`
}

export function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`
}

/** Formats the range that contains the true count. */
export function range(count, error) {
  return error === 0 ? number(count) : `${number(count - error)}–${number(count)}`
}

/** Encodes a client's text for an address; half a surrogate pair, which no address can hold, becomes U+FFFD. */
export function encoded(text) {
  return encodeURIComponent(text.toWellFormed())
}

/** Escapes characters of a client's text that are invisible or change the text direction. */
export function seen(text) {
  return text
    .replace(
      /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029]/gu,
      (one) => `\\u{${one.codePointAt(0).toString(16)}}`,
    )
    .replace(/(\p{M}{2})\p{M}+/gu, '$1…')
}

/** Returns the least round number that is not below a value; at least 1. */
export function roundTop(value) {
  if (!(value > 1)) return 1
  const ten = 10 ** Math.floor(Math.log10(value))
  return [1, 1.2, 1.6, 2, 3, 4, 6, 8, 10].map((times) => times * ten).find((one) => one >= value)
}

/** Returns the stretches of consecutive slots that fit, as [start, end) pairs. */
export function stretches(slots, fits) {
  const found = []
  for (const [i, slot] of slots.entries()) {
    if (!fits(slot)) continue
    if (found.at(-1)?.[1] === i) found.at(-1)[1] = i + 1
    else found.push([i, i + 1])
  }
  return found
}

/** Returns points of the values from slot `start` to `end`: those of the edges, and of the middle of each slot. */
function points(values, start, end, top) {
  const at = (x, value) => `${x},${(100 - (100 * value) / top).toFixed(2)}`
  const middles = values.slice(start, end).map((value, i) => at(start + i + 0.5, value))
  return [at(start, values[start]), ...middles, at(end, values[end - 1])]
}

/**
 * Returns stacked areas as SVG paths in a box as wide as there are slots, and 100 high.
 *
 * @param slots arrays of one value for each area; null: a gap
 * @param top value at the upper edge of the box
 */
export function areas(slots, count, top) {
  const parts = stretches(slots, (slot) => slot !== null)
  let below = slots.map(() => 0)
  return Array.from({ length: count }, (_, area) => {
    const above = slots.map((values, i) => below[i] + (values?.[area] ?? 0))
    const paths = parts.map(([start, end]) => {
      const back = points(below, start, end, top).reverse()
      return `M${points(above, start, end, top).join('L')}L${back.join('L')}Z`
    })
    below = above
    return paths.join('')
  })
}

/** Returns a line through the values as an SVG path in the same box; null: a gap. */
export function lines(values, top) {
  return stretches(values, (value) => value !== null)
    .map(([start, end]) => `M${points(values, start, end, top).join('L')}`)
    .join('')
}

/** Adds up samples of the history, `size` slots at a time. A percentile is the highest of them; null: none. */
export function byMinutes(slots, size) {
  const made = []
  for (let start = 0; start < slots.length; start += size) {
    const some = slots.slice(start, start + size).filter((slot) => slot !== null)
    const total = (pick) => some.reduce((sum, slot) => sum + pick(slot), 0)
    const most = (name) => some.reduce((most, slot) => (slot[name] > (most ?? -1) ? slot[name] : most), null)
    const classes = ['ok', 'client_error', 'limited', 'server_error']
    made.push({
      start,
      count: some.length,
      responses: Object.fromEntries(classes.map((name) => [name, total((slot) => slot.responses[name])])),
      shed: total((slot) => slot.shed),
      without_store: total((slot) => slot.without_store),
      p50_ms: most('p50_ms'),
      p95_ms: most('p95_ms'),
      p99_ms: most('p99_ms'),
    })
  }
  return made
}

const UNITS = [
  [86_400_000, 'day', 'days'],
  [3_600_000, 'hour', 'hours'],
  [60_000, 'minute', 'minutes'],
  [1000, 'second', 'seconds'],
]

/** Describes what a limit allows: `300 a minute`, `5 in 10 seconds, by address`, `3 at once`. */
export function quotaText({
  algorithm,
  by,
  amount,
  burst,
  window_ms: ms,
  period,
  time_zone: zone,
  share_of: shareOf,
}) {
  const level =
    shareOf === undefined ? `, by ${by === 'ip' ? 'address' : by}` : `, for each consumer of a ${by}`
  const whose = by === 'consumer' ? '' : level
  if (algorithm === 'concurrency') return `${number(amount)} at once${whose}`
  if (period !== undefined) return `${number(amount)} a ${period} in ${zone}${whose}`
  const [unit, one, many] = UNITS.find(([size]) => ms % size === 0) ?? [1, 'ms', 'ms']
  const window = ms === unit ? ` a${one === 'hour' ? 'n' : ''} ${one}` : ` in ${number(ms / unit)} ${many}`
  const most = burst === undefined || burst === amount ? '' : `, ${number(burst)} at once`
  return number(amount) + window + most + whose
}

/** Names a kind of credential. */
export const kindText = (kind) =>
  ({ api_key: 'API key', jwt: 'token', ip: 'address' })[kind] ?? kind?.replaceAll('_', ' ')

/** Says how a tier was found. */
export function tierText({ tier_from: from, identified_by: kind, tier_stale: isStale }) {
  if (from === null || from === undefined) return ''
  const stale = isStale ? ', whose answer is older than its ttl' : ''
  if (from.startsWith('source:')) return `from the tier source ${from.slice(7)}${stale}`
  if (from === 'assignment') return 'assigned by an operator'
  if (from === 'credential') return `from its ${kindText(kind) ?? 'credential'}`
  return from === 'default' ? 'the default' : `from the ${from}`
}

const DECIDERS = {
  store: 'by the store',
  cache: 'from the remembered denial of the store',
  local: 'by this gateway alone, within its share: the store was away',
  open: 'without counting: the store was away',
  closed: 'without counting: the store was away',
}

/** Says where a decision was made. */
export const decidedText = (by) => DECIDERS[by] ?? by
