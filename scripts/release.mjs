// `npm run release -- --image registry.example.com/tidegate`: checks that this checkout can be released, packs it with npm's dry run, and
// prints the commands that publish the package and the image, both with provenance. `--publish` runs them. CONTRIBUTING.md has the steps before.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Name of the base image in the Dockerfile. */
const BASE = 'node:24-bookworm-slim'

/**
 * Returns what keeps a checkout from being released, one line each.
 *
 * @param manifest package.json
 * @param lock package-lock.json
 * @param sbom sbom.cdx.json
 * @param changelog CHANGELOG.md
 * @param changed output of `git status --porcelain`
 * @param tags names of the tags of this commit
 */
export function releaseProblems({ manifest, lock, sbom, changelog, changed, tags }) {
  const { version, repository } = manifest
  const problems = []
  const expect = (holds, problem) => holds || problems.push(problem)
  expect(changed === '', 'files are changed: commit them')
  expect(tags.includes(`v${version}`), `this commit is not tagged: git tag v${version}`)
  expect(
    new RegExp(`^## \\[${version.replaceAll('.', '\\.')}\\] - \\d{4}-\\d\\d-\\d\\d$`, 'm').test(changelog),
    `CHANGELOG.md has no "## [${version}] - DATE": rename Unreleased`,
  )
  expect(lock.version === version, `package-lock.json says ${lock.version}: npm install --package-lock-only`)
  expect(
    sbom.metadata.component.version === version,
    `sbom.cdx.json says ${sbom.metadata.component.version}: npm run schema`,
  )
  expect(
    repository?.url !== undefined,
    'package.json names no repository, and npm compares it with the provenance: set repository.url',
  )
  return problems
}

/** Returns the warnings of `npm publish --dry-run`, except that nobody is logged in, which a dry run need not be. */
export function publishWarnings(stderr) {
  return stderr
    .split('\n')
    .filter((line) => /^npm (warn|error) /i.test(line) && !/requires you to be logged in/.test(line))
}

/**
 * Returns the commands that publish, in order.
 *
 * @param image name of the image without tag
 * @param base digest of the base image, `sha256:…`
 */
export function publishCommands(version, image, base) {
  return [
    ['npm', 'publish', '--provenance', '--access', 'public'],
    [
      ...['docker', 'buildx', 'build', '--platform', 'linux/amd64,linux/arm64'],
      // Every stage starts from this one image, and the provenance names its digest.
      ...['--build-context', `${BASE}=docker-image://${BASE}@${base}`],
      ...['--sbom=true', '--provenance=mode=max', '--tag', `${image}:${version}`, '--push', '.'],
    ],
    ['docker', 'buildx', 'imagetools', 'inspect', `${image}:${version}`],
  ]
}

function run([command, ...args], stdio) {
  return spawnSync(command, args, { cwd: root, encoding: 'utf8', stdio })
}

function release({ image = 'registry.example.com/tidegate', publish }) {
  const read = (name) => readFileSync(join(root, name), 'utf8')
  const json = (name) => JSON.parse(read(name))
  const manifest = json('package.json')
  const problems = releaseProblems({
    manifest,
    lock: json('package-lock.json'),
    sbom: json('sbom.cdx.json'),
    changelog: read('CHANGELOG.md'),
    changed: run(['git', 'status', '--porcelain']).stdout,
    tags: run(['git', 'tag', '--points-at', 'HEAD']).stdout.split('\n'),
  })
  const tried = run(['npm', 'publish', '--dry-run'])
  problems.push(...publishWarnings(tried.stderr))
  if (tried.status !== 0) problems.push(`npm publish --dry-run ended with ${tried.status}`)
  for (const line of tried.stderr.match(/(filename|package size|total files): .*/g) ?? []) console.log(line)

  const found = run(['docker', 'buildx', 'imagetools', 'inspect', BASE, '--format', '{{.Manifest.Digest}}'])
  const base = found.stdout?.trim() || 'sha256:…'
  if (found.status !== 0) problems.push(`docker buildx could not find the digest of ${BASE}`)

  for (const problem of problems) console.log(`problem: ${problem}`)
  const go = publish && problems.length === 0
  for (const command of publishCommands(manifest.version, image, base)) {
    console.log(`${go ? 'running' : 'would run'}: ${command.join(' ')}`)
    if (go && run(command, 'inherit').status !== 0) return 1
  }
  return problems.length === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { image: { type: 'string' }, publish: { type: 'boolean' } } })
  process.exitCode = release(values)
}
