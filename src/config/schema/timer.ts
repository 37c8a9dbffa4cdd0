import { scalar } from './define.js'

/** Longest time that a timer of Node can wait, in ms: whole days. */
const LONGEST_TIMER = 24 * 86_400_000

/** Defines a duration that a timer waits. */
export const timer = (description: string, fallback: string | undefined, least = 1) =>
  scalar('duration', description, {
    ...(fallback !== undefined && { default: fallback }),
    least,
    most: LONGEST_TIMER,
  })
