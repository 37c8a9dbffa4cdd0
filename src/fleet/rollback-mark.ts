/**
 * State of a map that the store has forgotten, kept in the store at `<map>:rollback`. Gateways and operators write it.
 */
export interface Mark {
  /** `open`: no operator has decided yet. `decided`: what the store has is right. */
  readonly state: 'open' | 'decided'
  /** Unix ms, greater than in any earlier mark; -1 if there was none. */
  readonly at: number
}

export function writeMark({ state, at }: Mark): string {
  return `${state} ${at}`
}

/**
 * Parses a mark. Returns the initial mark for anything that is not one of ours: any client with access to the store may
 * write.
 */
export function readMark(text: string | null): Mark {
  const [, state, at] = /^(open|decided) (\d{1,15})$/.exec(text ?? '') ?? []
  return state === undefined
    ? { state: 'decided', at: -1 }
    : { state: state as Mark['state'], at: Number(at) }
}
