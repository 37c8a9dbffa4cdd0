/** Consumer that a key of the file belongs to. */
export interface KeyOwner {
  readonly consumer: string
  /** Index into `tiers`. */
  readonly tier: number | undefined
  readonly tenant: string | undefined
  /** Scopes, for routes that require them. */
  readonly scopes: readonly string[] | undefined
}

interface Settings {
  readonly consumer: string
  readonly tier?: string
  readonly tenant?: string
  readonly scopes?: readonly string[]
}

/** @param tierIndex returns the index of a tier in the configuration */
export function ownerOf(
  { consumer, tier, tenant, scopes }: Settings,
  tierIndex: (name: string) => number,
): KeyOwner {
  return { consumer, tier: tier === undefined ? undefined : tierIndex(tier), tenant, scopes }
}
