import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import ts from 'typescript'
import { parseAllDocuments } from 'yaml'
import { loadConfig } from '../../src/config/load/load.js'
import { doorsOf, formatAddress } from '../../src/config/snapshot/doors.js'
import { formatListen } from '../../src/net/addresses.js'

const folder = fileURLToPath(new URL('../../deploy/kubernetes', import.meta.url))
const skip = spawnSync('kustomize', ['version']).status === 0 ? false : 'no kustomize; install it'

interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> }
  // biome-ignore lint/suspicious/noExplicitAny: what Kubernetes' own types say of it is checked below
  readonly spec: any
  readonly data?: Readonly<Record<string, string>>
}

function build(path = folder): Manifest[] {
  const { status, stdout, stderr } = spawnSync('kustomize', ['build', path], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  return parseAllDocuments(stdout).map((document) => document.toJS() as Manifest)
}

/**
 * Finds what Kubernetes would refuse or, worse, ignore. Checks the manifests as literals of the types made from its OpenAPI, for unknown
 * keys, and with its validators, for the values.
 *
 * @returns the faults of each set
 */
async function faultsOf(sets: readonly (readonly Manifest[])[], scratch: string): Promise<string[][]> {
  const files = sets.map((manifests, n) => {
    const lines = manifests.map(({ apiVersion, kind, ...rest }, i) => {
      const literal = JSON.stringify({ apiVersion, kind, ...rest })
      return `const m${i}: import('kubernetes-models/${apiVersion}/${kind}').I${kind} = ${literal}`
    })
    const file = join(scratch, `manifests-${n}.ts`)
    writeFileSync(file, [...lines, 'export {}'].join('\n'))
    return file
  })
  // One program for all: to read the types takes longer than to check everything.
  const program = ts.createProgram(files, {
    noEmit: true,
    skipLibCheck: true,
    types: [],
    lib: ['lib.es2020.d.ts'],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  })
  return Promise.all(
    sets.map(async (manifests, n) => {
      const faults = program
        .getSemanticDiagnostics(program.getSourceFile(files[n]!))
        .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
      for (const manifest of manifests) {
        const module = await import(`kubernetes-models/${manifest.apiVersion}/${manifest.kind}`)
        try {
          new module[manifest.kind](manifest).validate()
        } catch (error) {
          faults.push(`${manifest.kind} ${manifest.metadata.name}: ${(error as Error).message}`)
        }
      }
      return faults
    }),
  )
}

t.test('the manifests for Kubernetes', { skip }, async (t) => {
  const manifests = build()
  const one = (kind: string, name = 'tidegate') =>
    manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name)!
  const pod = one('Deployment').spec.template.spec
  const [container] = pod.containers

  t.test('match the Kubernetes API, with no unknown keys', async (t) => {
    t.equal(manifests.length, 9)

    const deployment = structuredClone(one('Deployment'))
    deployment.spec.template.spec.containers[0].redinessProbe = {}
    deployment.spec.minReadySeconds = '3'
    const [none, faults] = (await faultsOf([manifests, [deployment]], t.testdir())) as [string[], string[]]
    t.strictSame(none, [])
    t.match(faults.join('\n'), /redinessProbe"?' does not exist/, 'a key that is none is found')
    t.match(faults.join('\n'), /minReadySeconds must be integer/, 'and a value that is none')
  })

  t.test('hold a valid configuration that fits their ports, times and mounts', async (t) => {
    const env = {
      TIDEGATE_ADMIN_TOKEN: 'a-token-of-some-length',
      REDIS_URL: 'redis://redis:6379',
      ACME_KEY: 'acme-key',
    }
    const loaded = loadConfig(one('ConfigMap').data!['tidegate.yaml']!, { file: 'tidegate.yaml', env })
    if (!loaded.ok) return t.strictSame(loaded.errors, [])
    const { admin, server } = loaded.config
    t.strictSame(
      container.ports.map(({ containerPort }: { containerPort: number }) => `0.0.0.0:${containerPort}`),
      [...doorsOf(loaded.config).map(({ at }) => formatAddress(at)), formatListen(admin.listen)],
    )
    const drain = (server.shutdown_delay + server.shutdown_grace) / 1000
    t.ok(pod.terminationGracePeriodSeconds >= drain + 10, 'a pod may drain as long as the configuration says')
    const notReady = container.readinessProbe.periodSeconds * container.readinessProbe.failureThreshold
    t.ok(server.shutdown_delay / 1000 > notReady, 'and goes on accepting until it is known to be not ready')
    t.strictSame(container.args, [
      'start',
      '--config',
      `${container.volumeMounts[0].mountPath}/tidegate.yaml`,
    ])
    t.notOk('subPath' in container.volumeMounts[0], 'the kubelet swaps the folder under a running gateway')
    t.equal(
      pod.volumes[0].configMap.name,
      one('ConfigMap').metadata.name,
      'no hash in the name, which would restart it',
    )
  })

  t.test('select the pods of the Deployment', async (t) => {
    const { labels } = one('Deployment').spec.template.metadata
    const selectors = [
      one('Deployment').spec.selector.matchLabels,
      one('Service').spec.selector,
      one('Service', 'tidegate-admin').spec.selector,
      one('PodDisruptionBudget').spec.selector.matchLabels,
      ...pod.topologySpreadConstraints.map(
        (constraint: { labelSelector: { matchLabels: object } }) => constraint.labelSelector.matchLabels,
      ),
    ]
    t.equal(selectors.length, 6)
    for (const selector of selectors) t.match(labels, selector)
    t.ok(selectors.every((selector) => Object.keys(selector).length > 0))
  })

  t.test('let Prometheus scrape each gateway with its token', async (t) => {
    const [monitor] = build(join(folder, 'prometheus-operator'))
    const admin = one('Service', 'tidegate-admin')
    t.match(admin.metadata.labels, monitor!.spec.selector.matchLabels)
    t.equal(monitor!.spec.endpoints[0].port, admin.spec.ports[0].name)
    t.equal(admin.metadata.labels?.[monitor!.spec.jobLabel], 'tidegate', 'the job that the alerts ask for')
    t.equal(monitor!.spec.endpoints[0].authorization.credentials.name, container.envFrom[0].secretRef.name)
  })
})
