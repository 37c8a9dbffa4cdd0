// Tests bench/ and load/: nobody runs all of it in `npm test`, and a renamed export would break it unseen.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { ROOT } from '../support/pages.js'

const IMPORT = /(?:import|const) \{([^}]*)\}(?: from | = await import\()'([^']*\/dist\/[^']*)'/g

t.test('every name that bench/ and load/ import from dist/ is exported there', async (t) => {
  let count = 0
  for (const folder of ['bench', 'load']) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.mjs') || name.includes('node_modules')) continue
      const file = join(ROOT, folder, name)
      for (const [, names = '', from = ''] of readFileSync(file, 'utf8').matchAll(IMPORT)) {
        const exported = await import(new URL(from, pathToFileURL(file)).href)
        for (const one of names.split(',')) {
          const wanted = one.trim().split(/ as |:/)[0]!
          if (wanted === '') continue
          t.ok(wanted in exported, `${folder}/${name} imports ${wanted} from ${from}`)
          count++
        }
      }
    }
  }
  t.ok(count > 20, `${count} names`)
})
