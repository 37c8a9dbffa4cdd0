import type { Config } from '../schema/schema.js'

export type Coding = 'zstd' | 'br' | 'gzip'

/** Compiled settings of a route for compressing responses. */
export interface Compress {
  readonly encodings: readonly Coding[]
  /** Returns true if responses of a media type (lower case, without parameters) are worth compressing. */
  readonly takes: (type: string) => boolean
  /** Smallest response that is compressed, in bytes. */
  readonly minSize: number
}

export function compileCompress(settings: Config['routes'][number]['compress']): Compress | undefined {
  if (settings?.enabled !== true) return undefined
  const exact = new Set(settings.types)
  const main = settings.types.filter((type) => type.endsWith('/*')).map((type) => type.slice(0, -1))
  const suffixes = settings.types.filter((type) => type.startsWith('*+')).map((type) => type.slice(1))
  return {
    encodings: settings.encodings,
    takes: (type) =>
      exact.has(type) ||
      (type !== 'text/event-stream' &&
        (main.some((beginning) => type.startsWith(beginning)) ||
          suffixes.some((suffix) => type.endsWith(suffix)))),
    minSize: settings.min_size,
  }
}
