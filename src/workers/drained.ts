/** Upstreams that operators have drained: a worker that starts later gets this list. */
export interface Drained {
  set(service: string, address: string, state: 'drained' | 'serving'): void
  all(): (readonly [service: string, address: string])[]
}

export function createDrained(): Drained {
  const drained = new Map<string, readonly [service: string, address: string]>()
  return {
    set(service, address, state) {
      const key = JSON.stringify([service, address])
      if (state === 'drained') drained.set(key, [service, address])
      else drained.delete(key)
    },
    all: () => [...drained.values()],
  }
}
