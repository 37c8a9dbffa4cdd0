// Replaces `import t from 'tap'` in compiled test files: gives each file a test of its own. A process loads its files one after the
// other. A file that runs by itself (`node dist-test/limiter/key.test.js`) gets tap's root test.
let current

/** Sets the test that the next file gets. */
export function setFileTest(test) {
  current = test
}

/** Resolves with the test of the file that is being loaded. */
export async function fileTest() {
  return current ?? (await import('tap')).default
}
