// Reads package-lock.json: checks that each package is pinned by hash and has an allowed licence, and makes the list of licences
// and the SBOM, which vulnerability scanners read.

/**
 * Licences that ask for no more than their text and names to be kept. Any other is a question for whoever adds the package:
 * one that asks for more (GPL, AGPL, SSPL, BUSL …) would bind those who run the gateway, too.
 */
const ALLOWED = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'BlueOak-1.0.0',
  'CC-BY-3.0',
  'CC0-1.0',
  'ISC',
  'MIT',
  'WTFPL',
])

/** Licences that bind only changes to the package's own files: allowed for what tests run unchanged, not for what is installed with Tidegate. */
const ALLOWED_IN_TESTS = new Set(['MPL-2.0'])

/** Packages whose package.json names no licence, and what their own licence file says. */
const BY_FILE = new Map([['jsonc-simple-parser', 'MIT']])

/** Packages that may run a program of theirs at installation. Nothing that runs in production may, nor any other unseen. */
const MAY_RUN_AT_INSTALL = new Set(['esbuild', 'protobufjs'])

/** Scripts that npm runs by itself when this package is installed, from the registry or from git. */
const INSTALL_SCRIPTS = ['preinstall', 'install', 'postinstall', 'prepare', 'preprepare', 'postprepare']

const REGISTRY = 'https://registry.npmjs.org/'

/** Returns the packages of a lockfile, sorted by name and version: `{ path, name, version, dev, licence, integrity, … }`. */
export function packagesOf(lock) {
  return Object.entries(lock.packages)
    .filter(([path]) => path !== '')
    .map(([path, entry]) => {
      const name = entry.name ?? path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
      return {
        ...entry,
        path,
        name,
        dev: entry.dev === true || entry.devOptional === true,
        licence: entry.license ?? BY_FILE.get(name),
      }
    })
    .sort((a, b) => compare(a.name, b.name) || compare(a.version, b.version) || compare(a.path, b.path))
}

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0
}

/** Returns a line for each problem of a lockfile and its package.json. */
export function lockProblems(manifest, lock) {
  const problems = []
  if (lock.lockfileVersion !== 3)
    problems.push(`is of version ${lock.lockfileVersion}, not 3; make it with npm 7 or newer`)
  const own = lock.packages[''] ?? {}
  for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies']) {
    const [said, locked] = [manifest[kind] ?? {}, own[kind] ?? {}]
    for (const name of new Set([...Object.keys(said), ...Object.keys(locked)])) {
      if (said[name] === locked[name]) continue
      problems.push(
        `${name}: package.json says ${said[name] ?? 'nothing'}, the lockfile ${locked[name] ?? 'nothing'}; run npm install`,
      )
    }
  }
  for (const { path, name, version, resolved, integrity, link, dev, hasInstallScript } of packagesOf(lock)) {
    const say = (text) => problems.push(`${path}: ${text}`)
    if (link) say('is a link to a folder; name a version that the registry has')
    else if (!/^\d+\.\d+\.\d+/.test(version ?? ''))
      say(`has the version ${version}; name one that the registry has`)
    // Without it the package comes from the registry by its name and version.
    if (resolved !== undefined && !resolved.startsWith(REGISTRY))
      say(`comes from ${resolved}, not from the registry`)
    if (!link && !/^sha512-/.test(integrity ?? ''))
      say('has no SHA-512 to hold what is downloaded against; run npm install')
    if (hasInstallScript && !(dev && MAY_RUN_AT_INSTALL.has(name)))
      say('runs a program when it is installed; look at it, and do without if you can')
  }
  for (const script of INSTALL_SCRIPTS) {
    if (manifest.scripts?.[script] !== undefined)
      problems.push(`package.json: the script ${script} would run wherever this is installed`)
  }
  return problems
}

/** Returns a line for each package whose licence is not allowed. */
export function licenceProblems(lock) {
  return packagesOf(lock)
    .filter(({ licence, dev }) => !(isAllowed(licence) || (dev && ALLOWED_IN_TESTS.has(licence))))
    .map(
      ({ name, version, licence }) =>
        `${name}@${version}: ${licence ?? 'no licence'} is not on the list of scripts/dependencies.mjs`,
    )
}

/** Returns true if a licence is allowed: one part of `A OR B`, all parts of `A AND B`. */
function isAllowed(licence) {
  if (typeof licence !== 'string') return false
  const bare = licence.replace(/^\((.*)\)$/, '$1')
  if (/[()]/.test(bare)) return false
  return bare.split(' OR ').some((all) => all.split(' AND ').every((one) => ALLOWED.has(one)))
}

/** Makes docs/licences.md. */
export function licencePage(lock) {
  const packages = packagesOf(lock)
  const runtime = packages.filter(({ dev }) => !dev)
  const rows = runtime.map(({ name, version, licence }) => `| ${name} | ${version} | ${licence} |`)
  const groups = new Map()
  for (const { name, licence } of packages.filter(({ dev }) => dev)) {
    const names = groups.get(licence)
    if (names === undefined) groups.set(licence, new Set([name]))
    else names.add(name)
  }
  const lines = [...groups]
    .sort(([a], [b]) => compare(a, b))
    .map(([licence, names]) => `- **${licence}** (${names.size}): ${[...names].sort().join(', ')}`)
  return `<!-- Made by scripts/generate-schema.mjs from package-lock.json: npm run schema. -->

# Licences

Tidegate is under Apache-2.0. This page lists every package of \`package-lock.json\`. A test fails when a package has a licence that is
not on the list in \`scripts/dependencies.mjs\`. \`sbom.cdx.json\` lists the same packages with their hashes ([security](security.md#dependencies)).

## What runs

${runtime.length} packages are installed with Tidegate.

| Package | Version | Licence |
| --- | --- | --- |
${rows.join('\n')}

## What builds and tests it

These are neither installed with Tidegate nor in the container.

${lines.join('\n')}
`
}

/**
 * Makes the SBOM of the packages that run, as CycloneDX 1.5. It has no time and no serial number, so the same lockfile makes
 * the same file.
 */
export function bill(manifest, lock) {
  const runtime = packagesOf(lock).filter(({ dev }) => !dev)
  const byPath = new Map(runtime.map((entry) => [entry.path, entry]))
  const ref = ({ name, version }) => `pkg:npm/${name.replace(/^@/, '%40')}@${version}`
  const own = { name: manifest.name, version: manifest.version }
  const needs = (path, entry) => {
    const names = Object.keys({
      ...entry.dependencies,
      ...entry.optionalDependencies,
      ...entry.peerDependencies,
    })
    const found = names.map((name) => resolve(path, name)).filter((one) => one !== undefined)
    return [...new Set(found.map(ref))].sort()
  }
  /** Finds a package as Node does: in the package's own folder first, then outwards. */
  function resolve(path, name) {
    for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
      const found = byPath.get(`${folder}${folder === '' ? '' : '/'}node_modules/${name}`)
      if (found !== undefined || folder === '') return found
    }
  }
  const components = new Map(runtime.map((entry) => [ref(entry), entry]))
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      component: {
        'bom-ref': ref(own),
        type: 'application',
        ...own,
        description: manifest.description,
        purl: ref(own),
        licenses: [{ license: { id: manifest.license } }],
      },
    },
    components: [...components].map(([purl, { name, version, licence, integrity }]) => ({
      'bom-ref': purl,
      type: 'library',
      name,
      version,
      purl,
      hashes: [
        { alg: 'SHA-512', content: Buffer.from(integrity.slice('sha512-'.length), 'base64').toString('hex') },
      ],
      licenses: [/ /.test(licence) ? { expression: licence } : { license: { id: licence } }],
    })),
    dependencies: [
      { ref: ref(own), dependsOn: needs('', manifest) },
      ...[...components].map(([purl, entry]) => ({ ref: purl, dependsOn: needs(entry.path, entry) })),
    ],
  }
}
