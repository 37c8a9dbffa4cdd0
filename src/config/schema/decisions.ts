import { integer, object, scalar } from './define.js'

/** Schema of the decisions that are kept to be explained later. */
export const Decisions = object(
  {
    keep: integer(
      'Decisions that each process keeps, about 1 KiB each. Half are denials, a quarter failures, a quarter other refusals and the sample. 0: none',
      [0, 1_000_000],
      { default: 10_000, restart: true },
    ),
    sample: scalar('share', 'Share of the successful requests that is kept, too, from 0 to 1', {
      default: 0.01,
    }),
  },
  'Recent decisions, kept to explain why a request was limited',
  { default: {} },
)
