/** Remembers the upstreams that operators have drained: a worker that starts later gets this list. */
export function createDrained() {
  const drained = new Map<string, readonly [service: string, address: string]>()
  return {
    set(service: string, address: string, state: 'drained' | 'serving'): void {
      const key = JSON.stringify([service, address])
      if (state === 'drained') drained.set(key, [service, address])
      else drained.delete(key)
    },
    all: () => [...drained.values()],
  }
}
