// Finds the browser that shows the page to tests and takes its pictures.
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'chrome']

/** Returns the path of a Chromium: `CHROMIUM_PATH`, else the first on the PATH; undefined if there is none. */
export function findChromium(env = process.env) {
  if (env.CHROMIUM_PATH) return env.CHROMIUM_PATH
  const folders = (env.PATH ?? '').split(':').filter((folder) => folder !== '')
  return folders.flatMap((folder) => NAMES.map((name) => join(folder, name))).find((path) => existsSync(path))
}

/** What to do when there is none. */
export const NO_CHROMIUM = 'no browser: apt-get install -y chromium, or set CHROMIUM_PATH'
