// What `import t from 'tap'` is to a test file once it is compiled: the test of that file. Files of one process are loaded one after
// the other; by itself (`node dist-test/limiter/key.test.js`) a file has tap's root test, as ever.
let current

/** Sets the test that the next file gets. */
export function setFileTest(test) {
  current = test
}

/** Resolves with the test of the file that is being loaded. */
export async function fileTest() {
  return current ?? (await import('tap')).default
}
