// `npm run grafana`: writes grafana/dashboards from the TypeScript beside this file.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { dashboardFiles } from './dashboards.js'

const folder = new URL('../dashboards/', import.meta.url)
const files = dashboardFiles()
mkdirSync(folder, { recursive: true })
for (const name of readdirSync(folder)) if (!files.has(name)) rmSync(new URL(name, folder))
for (const [name, text] of files) writeFileSync(new URL(name, folder), text)
console.log(`grafana/dashboards: ${[...files.keys()].join(', ')}`)
