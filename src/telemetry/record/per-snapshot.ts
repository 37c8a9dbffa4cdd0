import type { Snapshot } from '../../config/snapshot/snapshot.js'

/**
 * Returns a function that makes a value once for each snapshot. Around a reload, requests of the old and the new snapshot
 * alternate for a while; otherwise the latest value is found by a comparison.
 */
export function perSnapshot<T>(make: (snapshot: Snapshot) => T): (snapshot: Snapshot) => T {
  const made = new WeakMap<Snapshot, { readonly value: T }>()
  let latest: Snapshot | undefined
  let value: T
  return (snapshot) => {
    if (snapshot !== latest) {
      const found = made.get(snapshot) ?? { value: make(snapshot) }
      made.set(snapshot, found)
      latest = snapshot
      value = found.value
    }
    return value
  }
}
