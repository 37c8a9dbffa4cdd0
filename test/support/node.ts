/**
 * The command that runs Node as a user would. The test runner puts a hook of its own into every Node process that a test
 * starts, by NODE_OPTIONS, at the price of as much CPU as the start itself; `env` takes it out again and then
 * becomes the process, so pid and signals stay what they are.
 */
export const NODE: readonly [command: string, ...args: string[]] = [
  'env',
  '-u',
  'NODE_OPTIONS',
  process.execPath,
]
