// Numbers and texts of the page. These functions need no document.

/** Returns the rate per second between two counts that are `ms` apart. A count that went down has restarted from 0. */
export function perSecond(before, after, ms) {
  const difference = after >= before ? after - before : after
  return ms > 0 ? (difference * 1000) / ms : 0
}

/**
 * Returns a quantile of a histogram in ms, interpolated linearly in its bucket; null when nothing was counted. Above
 * the last bound, returns that bound.
 */
export function quantile(bounds, counts, share) {
  const total = counts.reduce((sum, count) => sum + count, 0)
  if (total === 0) return null
  let left = share * total
  for (let i = 0; i < bounds.length; i++) {
    if (left <= counts[i] && counts[i] > 0) {
      const below = i === 0 ? 0 : bounds[i - 1]
      return below + ((bounds[i] - below) * left) / counts[i]
    }
    left -= counts[i]
  }
  return bounds[bounds.length - 1]
}

export function difference(before, after) {
  return after.map((count, i) => (count >= (before[i] ?? 0) ? count - (before[i] ?? 0) : count))
}

const grouped = new Intl.NumberFormat('en')
export function number(value) {
  return grouped.format(value)
}

export function rate(value) {
  if (value === 0) return '0'
  return value < 10 ? value.toFixed(1) : number(Math.round(value))
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

/**
 * Returns stacked areas as SVG paths in a box of `width` by `height`, the newest sample on the right.
 *
 * @param samples arrays of one value for each area
 * @param most samples that there is room for
 */
export function areas(samples, most, width, height) {
  const sums = samples.map((values) => values.reduce((sum, value) => sum + value, 0))
  const top = Math.max(1, ...sums)
  const x = (i) => (width * (most - samples.length + i)) / Math.max(1, most - 1)
  const y = (value) => height - (height * value) / top
  const count = samples[0]?.length ?? 0
  const paths = []
  let below = samples.map(() => 0)
  for (let area = 0; area < count; area++) {
    const above = samples.map((values, i) => below[i] + values[area])
    const line = above.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`)
    const back = below.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).reverse()
    paths.push(samples.length < 2 ? '' : `M${line.join('L')}L${back.join('L')}Z`)
    below = above
  }
  return { paths, top }
}
