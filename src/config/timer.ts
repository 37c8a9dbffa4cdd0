import { scalar } from './define.js'

/** Longest time that a timer of Node can wait, in whole days. */
const LONGEST_TIMER = 24 * 86_400_000

/** A duration that a timer waits. */
export const timer = (description: string, fallback: string, least = 1) =>
  scalar('duration', description, { default: fallback, least, most: LONGEST_TIMER })
