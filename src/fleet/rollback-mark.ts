/** What stands in the store at `<map>:rollback`: what gateways and operators have to say of a map that it has forgotten. */
export interface Mark {
  /** `open`: nobody has decided yet; `decided`: what the store has holds. */
  readonly state: 'open' | 'decided'
  /** Unix ms, greater than that of any mark before; -1: there was none. */
  readonly at: number
}

export function writeMark({ state, at }: Mark): string {
  return `${state} ${at}`
}

/** Anybody with access to the store may write anything: what is no mark of ours is none. */
export function readMark(text: string | null): Mark {
  const [, state, at] = /^(open|decided) (\d{1,15})$/.exec(text ?? '') ?? []
  return state === undefined
    ? { state: 'decided', at: -1 }
    : { state: state as Mark['state'], at: Number(at) }
}
