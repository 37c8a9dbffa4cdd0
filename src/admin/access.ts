import { createHash, timingSafeEqual } from 'node:crypto'
import type { Config } from '../config/schema.js'
import { createFailedTokens } from './failed-tokens.js'
import type { Problem } from './problem.js'
import type { Role } from './roles.js'

/** Who somebody is, and what they may do. */
export interface Grant {
  readonly who: string
  readonly role: Role
}

/** A problem that goes away by itself. */
export interface Wait {
  readonly problem: Problem
  /** Whole seconds. */
  readonly retryAfter: number
}

export interface Access {
  /** Whether whoever comes has to have a token; without, this machine is served, and may do everything. */
  isOpen(): boolean
  /**
   * Who has the token of an Authorization field, as the configuration in force has it.
   *
   * @returns undefined: there is none, or it is nobody's
   */
  identify(authorization: string | undefined, address: string): Grant | Wait | undefined
}

/** The part of the configuration that says who may come. */
export type AccessSettings = Pick<Config['admin'], 'token' | 'tokens'>

export interface AccessOptions {
  readonly settings: () => AccessSettings
  readonly log: { warn(details: object, message: string): void }
  /** Unix ms. */
  readonly now?: () => number
}

const LOOPBACK: Grant = { who: 'loopback', role: 'operator' }

export function createAccess({ settings, log, now = Date.now }: AccessOptions): Access {
  const failed = createFailedTokens(now)
  let compiled = compile(settings())

  /** Compiled once for each configuration. */
  function current(): Compiled {
    const present = settings()
    if (compiled.of !== present) compiled = compile(present)
    return compiled
  }

  return {
    isOpen: () => current().tokens.length === 0,
    identify(authorization, address) {
      const { tokens } = current()
      if (tokens.length === 0) return LOOPBACK
      const token = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
      // Nothing was guessed.
      if (token === undefined) return undefined
      const waitMs = failed.waitFor(address)
      // Also with the right one: whoever guesses must not learn which it is.
      if (waitMs > 0) return wait(waitMs)
      const given = digest(token)
      const grant = holderOf(tokens, given)
      if (grant !== undefined) return grant
      failed.add(address, given)
      if (failed.waitFor(address) > 0)
        log.warn({ address }, 'too many wrong tokens for the admin API: the address has to wait a minute')
      return undefined
    },
  }
}

interface Compiled {
  readonly of: AccessSettings
  readonly tokens: readonly { readonly digest: Buffer; readonly grant: Grant }[]
}

function compile(of: AccessSettings): Compiled {
  const tokens: { digest: Buffer; grant: Grant }[] = of.tokens.map(({ sha256, name, role }) => ({
    digest: Buffer.from(sha256, 'hex'),
    grant: { who: name, role },
  }))
  if (of.token !== undefined)
    tokens.unshift({ digest: digest(of.token), grant: { who: 'token', role: 'operator' } })
  return { of, tokens }
}

/** All are compared, and each to its end: how long it takes tells nothing of which it is, or how far two agree. */
function holderOf(tokens: Compiled['tokens'], given: Buffer): Grant | undefined {
  let found: Grant | undefined
  for (const { digest: expected, grant } of tokens) if (timingSafeEqual(expected, given)) found = grant
  return found
}

function wait(ms: number): Wait {
  const retryAfter = Math.ceil(ms / 1000)
  const detail = `Too many wrong tokens came from this address; try again in ${retryAfter} s.`
  return { problem: { code: 'too_many_attempts', detail }, retryAfter }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
