/** Freezes plain data, and the maps and sets in it, all the way down. */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  if (value instanceof Map || value instanceof Set) {
    for (const name of ['set', 'add', 'delete', 'clear'])
      Object.defineProperty(value, name, { value: refuse })
    for (const item of value.values()) deepFreeze(item)
  }
  Object.freeze(value)
  for (const item of Object.values(value)) deepFreeze(item)
  return value
}

function refuse(): never {
  throw new TypeError('a snapshot cannot be changed; load another configuration')
}
