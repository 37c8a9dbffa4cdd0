import fc from 'fast-check'
import { codePoint } from '../support/code-point.js'

/** The part of a tap test that cleans up after it. */
export interface Cleanup {
  teardown(fn: () => unknown): unknown
}

export type Holds = fc.IAsyncPropertyWithHooks<[unknown]>

/** Describes a reader of outside data, and what must hold whatever it reads. */
export interface Target {
  readonly name: string
  /** The claim that must hold, in one line. */
  readonly what: string
  /** Number of inputs that `npm test` tries. */
  readonly short: number
  /** Opens what the target needs. */
  open(t: Cleanup): Promise<Holds> | Holds
}

const crashes: unknown[] = []
let parts = 0

/** Counts the parts of all inputs that were tried: an input that is a list has as many as the list. */
export function partsTried(): number {
  return parts
}

/** Turns what would end the process into a finding of the current input, from now on. Only for a process of its own. */
export function watchForCrashes(): void {
  process.on('uncaughtException', (error) => void crashes.push(error))
  process.on('unhandledRejection', (error) => void crashes.push(error))
}

/** Returns a property that also fails when something throws where nobody waits for it. */
export function holds<T>(inputs: fc.Arbitrary<T>, check: (input: T) => unknown): Holds {
  return fc.asyncProperty(inputs, async (input) => {
    crashes.length = 0
    parts += Array.isArray(input) ? input.length : 1
    await check(input)
    if (crashes.length > 0) throw crashes[0]
  }) as unknown as Holds
}

export function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(what)
}

interface Change {
  readonly kind: 'insert' | 'remove' | 'replace' | 'repeat' | 'cut'
  /** Position in the text, in thousandths. */
  readonly at: number
  readonly length: number
  readonly token: string
}

/** Generates a text with a few random changes. Tokens are the pieces that its readers look for. */
export function mutated(
  text: fc.Arbitrary<string>,
  tokens: readonly string[],
  most = 4,
): fc.Arbitrary<string> {
  const change: fc.Arbitrary<Change> = fc.record({
    kind: fc.constantFrom(...(['insert', 'insert', 'replace', 'remove', 'repeat', 'cut'] as const)),
    at: fc.integer({ min: 0, max: 1000 }),
    length: fc.integer({ min: 1, max: 12 }),
    token: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...tokens) },
      { weight: 1, arbitrary: fc.string({ maxLength: 4, unit: codePoint }) },
    ),
  })
  return fc
    .tuple(text, fc.array(change, { maxLength: most }))
    .map(([start, changes]) => changes.reduce(apply, start))
}

function apply(text: string, { kind, at, length, token }: Change): string {
  const place = Math.floor((text.length * at) / 1000)
  const [before, here, after] = [
    text.slice(0, place),
    text.slice(place, place + length),
    text.slice(place + length),
  ]
  switch (kind) {
    case 'insert':
      return before + token + here + after
    case 'replace':
      return before + token + after
    case 'remove':
      return before + after
    case 'repeat':
      return before + here + here + after
    case 'cut':
      return before
  }
}
