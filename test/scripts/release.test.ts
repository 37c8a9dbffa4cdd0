import t from 'tap'
// @ts-expect-error a script without types
import { publishCommands, publishWarnings, releaseProblems } from '../../scripts/release.mjs'

const READY = {
  manifest: { version: '1.2.3', repository: { url: 'git+https://git.example.com/tidegate.git' } },
  lock: { version: '1.2.3' },
  sbom: { metadata: { component: { version: '1.2.3' } } },
  changelog: '# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-12-01\n',
  changed: '',
  tags: ['v1.2.3', ''],
}

t.test('a checkout is released only when everything names its version', async (t) => {
  t.strictSame(releaseProblems(READY), [])
  const wrong: [change: object, problem: RegExp][] = [
    [{ changed: ' M src/main.ts\n' }, /commit them/],
    [{ tags: ['v1.2.2'] }, /git tag v1\.2\.3/],
    [{ changelog: '## [Unreleased]\n## [1x2x3] - 2026-12-01\n' }, /CHANGELOG\.md has no "## \[1\.2\.3\]/],
    [{ lock: { version: '1.2.2' } }, /package-lock\.json says 1\.2\.2/],
    [
      { sbom: { metadata: { component: { version: '1.2.2' } } } },
      /sbom\.cdx\.json says 1\.2\.2: npm run schema/,
    ],
    [{ manifest: { version: '1.2.3' } }, /repository\.url/],
  ]
  for (const [change, problem] of wrong) {
    const problems = releaseProblems({ ...READY, ...change })
    t.equal(problems.length, 1, String(problems))
    t.match(problems[0], problem)
  }
})

t.test('every warning of the dry run counts, but not that nobody is logged in', async (t) => {
  const stderr = `npm notice total files: 1305
npm warn publish This command requires you to be logged in to https://registry.npmjs.org/ (dry-run)
npm warn publish "bin[tidegate]" script name was cleaned`
  t.strictSame(publishWarnings(stderr), ['npm warn publish "bin[tidegate]" script name was cleaned'])
})

t.test(
  'the package is published with provenance, the image with an SBOM, too, on a base named by digest',
  async (t) => {
    const [npm, image] = publishCommands('1.2.3', 'registry.example.com/tidegate', 'sha256:abc').map(
      (command: string[]) => command.join(' '),
    )
    t.equal(npm, 'npm publish --provenance --access public')
    t.match(image, '--build-context node:24-bookworm-slim=docker-image://node:24-bookworm-slim@sha256:abc ')
    t.match(image, '--sbom=true --provenance=mode=max --tag registry.example.com/tidegate:1.2.3 --push .')
  },
)
