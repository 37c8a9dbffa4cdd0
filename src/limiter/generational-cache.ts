/** Cache of the latest values by key, at most 2 × `size`. When the younger half is full, it replaces the older half. */
export type Recent<T> = ReturnType<typeof createRecent<T>>

export function createRecent<T>(size: number) {
  let younger = new Map<string, T>()
  let older = new Map<string, T>()
  return {
    // The cache is usually empty. Then the key need not be hashed.
    get: (key: string): T | undefined =>
      younger.size + older.size === 0 ? undefined : (younger.get(key) ?? older.get(key)),
    set(key: string, value: T): void {
      if (younger.size >= size) {
        older = younger
        younger = new Map()
      }
      younger.set(key, value)
    },
    clear(): void {
      younger = new Map()
      older = new Map()
    },
  }
}
