/**
 * An exact log of what one user was admitted, with several windows. A window of W ms that ends at t holds what was admitted in
 * (t - W, t]. There is room if every window holds less than its amount.
 */
export function createLog(limits) {
  const windows = limits.map(({ amount, windowMs }) => ({ amount, windowMs, first: 0 }))
  let times = new Float64Array(64)
  /** Admissions are numbered. They lie in a ring, and those of no window are overwritten. */
  let count = 0

  const at = (number) => times[number & (times.length - 1)]

  function forget(t) {
    let oldest = count
    for (const window of windows) {
      while (window.first < count && at(window.first) <= t - window.windowMs) window.first++
      if (window.first < oldest) oldest = window.first
    }
    return oldest
  }

  return {
    hasRoom(t) {
      forget(t)
      for (const { amount, first } of windows) if (count - first >= amount) return false
      return true
    },
    /** Returns when there is room again if nothing is admitted, t at the earliest. */
    roomAt(t) {
      forget(t)
      let room = t
      for (const { amount, windowMs, first } of windows) {
        const over = count - first - amount
        if (over >= 0) room = Math.max(room, at(first + over) + windowMs)
      }
      return room
    },
    add(t) {
      if (count - forget(t) === times.length) grow()
      times[count++ & (times.length - 1)] = t
    },
    clear() {
      for (const window of windows) window.first = count
    },
  }

  function grow() {
    const larger = new Float64Array(2 * times.length)
    for (let number = count - times.length; number < count; number++)
      larger[number & (larger.length - 1)] = at(number)
    times = larger
  }
}
