/** Seeded random numbers, so that the same seed gives the same figures on every machine. */

/** Returns a generator of even numbers in [0, 1) from a 32-bit seed (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export const exponential = (random, mean) => -mean * Math.log(1 - random())

/** Mean above which a Poisson number is drawn from the normal distribution, which then differs by less than 1 %. */
const MANY = 200

/** Returns how many of independent events happen of which `mean` are expected. */
export function poisson(random, mean) {
  if (mean > MANY) {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())
    return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal))
  }
  let events = 0
  for (let left = mean - exponential(random, 1); left > 0; left -= exponential(random, 1)) events++
  return events
}
