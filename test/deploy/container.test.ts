import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Copy, DockerfileParser, type Instruction, type JSONInstruction } from 'dockerfile-ast'
import { validate } from 'dockerfile-utils'
import t from 'tap'
import { request } from 'undici'
import { freePort } from '../support/free-port.js'
import { startBackend } from '../support/gateway/process.js'
import { IN_MEMORY, scratchFolder } from '../support/scratch.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const TEXT = readFileSync(join(root, 'Dockerfile'), 'utf8')
const INSTRUCTIONS = DockerfileParser.parse(TEXT).getInstructions()
const keyword = (instruction: Instruction) => instruction.getKeyword()
const words = (instruction: Instruction) => instruction.getArguments().map((argument) => argument.getValue())

t.test('the Dockerfile passes a linter, pins its image, and runs as user 1000', async (t) => {
  t.strictSame(
    validate(TEXT).map(({ range, message }) => `${range.start.line + 1}: ${message}`),
    [],
  )
  for (const from of INSTRUCTIONS.filter((one) => keyword(one) === 'FROM')) {
    t.match(words(from)[0], /^node:24-bookworm-slim$/, 'one image, by a tag that is not latest')
  }
  t.strictSame(INSTRUCTIONS.filter((one) => keyword(one) === 'USER').flatMap(words), ['1000:1000'])
})

t.test('.dockerignore lets in exactly what the Dockerfile copies', async (t) => {
  const lines = readFileSync(join(root, '.dockerignore'), 'utf8').split('\n')
  const [first, ...letIn] = lines.filter((line) => line !== '' && !line.startsWith('#'))
  t.equal(first, '*')
  const copied = INSTRUCTIONS.filter((one) => keyword(one) === 'COPY' && fromOf(one) === undefined)
  const sources = new Set(copied.flatMap((copy) => words(copy).slice(0, -1)))
  t.strictSame(letIn.toSorted(), [...sources].map((source) => `!${source.replace(/\/$/, '')}`).toSorted())
})

function fromOf(copy: Instruction): string | undefined {
  const flag = (copy as Copy).getFlags().find((one) => one.getName() === 'from')
  return flag?.getValue() ?? undefined
}

interface Stage {
  readonly folder: string
  workdir: string
  readonly json: Record<string, string[]>
}

/** Builds in folders what an engine builds in images: runs the RUN commands, and copies for COPY. */
function buildIn(scratch: string): Stage {
  const stages = new Map<string, Stage>()
  let stage: Stage | undefined
  const inside = (path: string) => join(stage!.folder, resolve('/', stage!.workdir, path))
  for (const instruction of INSTRUCTIONS) {
    const args = words(instruction)
    switch (keyword(instruction)) {
      case 'FROM':
        stage = { folder: join(scratch, String(stages.size)), workdir: '/', json: {} }
        stages.set(args[2] ?? 'last', stage)
        break
      case 'WORKDIR':
        stage!.workdir = args[0]!
        mkdirSync(inside('.'), { recursive: true })
        break
      case 'COPY': {
        const from = fromOf(instruction)
        const base = from === undefined ? root : stages.get(from)!.folder
        const target = args.at(-1)!
        for (const source of args.slice(0, -1)) {
          const whole = source.endsWith('/')
          const path = inside(
            whole || !target.endsWith('/') ? target : join(target, source.split('/').at(-1)!),
          )
          mkdirSync(dirname(path), { recursive: true })
          // No later step changes a finished stage, so links serve as well as copies of 7,500 files.
          if (from === undefined)
            cpSync(join(base, source), path, { recursive: true, verbatimSymlinks: true })
          else execFileSync('cp', ['-al', join(base, source), path])
        }
        break
      }
      case 'RUN':
        run(instruction.getArgumentsContent()!, inside('.'))
        break
      case 'ENTRYPOINT':
      case 'CMD':
        stage!.json[keyword(instruction)] = (instruction as JSONInstruction)
          .getJSONStrings()
          .map((one) => one.getJSONValue())
        break
    }
  }
  return stages.get('last')!
}

function run(command: string, cwd: string): void {
  // The development packages are here already; TIDEGATE_TEST_FETCH=1 fetches them anew.
  const fetchesAll = /^npm ci (?!.*--omit=dev)/.test(command)
  const instead =
    fetchesAll && !process.env.TIDEGATE_TEST_FETCH ? `ln -s ${join(root, 'node_modules')}` : command
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)))
  execFileSync('sh', ['-c', instead], {
    cwd,
    env: { ...env, npm_config_prefer_offline: 'true' },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

/** Makes a namespace with a read-only root file system and a process 1 of its own, as a container has. */
const NAMESPACE = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c']
const READ_ONLY = ['/', ...(IN_MEMORY === undefined ? [] : [IN_MEMORY])]
const INSIDE = `mount --make-rprivate / && ${READ_ONLY.map((path) => `mount -o remount,bind,ro ${path} && `).join('')}exec setpriv --reuid=1000 --regid=1000 --clear-groups "$@"`
const skip =
  spawnSync('unshare', [...NAMESPACE, INSIDE, 'sh', 'true']).status === 0
    ? false
    : 'no namespace may be made here; run it as root, with util-linux'

t.test('the commands of the Dockerfile, run in folders, build a gateway', async (t) => {
  const scratch = scratchFolder(t, 'tidegate-image-')
  chmodSync(scratch, 0o755)
  const image = buildIn(scratch)
  const at = (args: readonly string[]) =>
    args.map((arg) => (arg.startsWith('/app/') ? join(image.folder, arg) : arg))
  const [, ...entrypoint] = at(image.json.ENTRYPOINT!)

  const { stdout } = spawnSync(process.execPath, [...entrypoint, '--version'], { encoding: 'utf8' })
  t.equal(stdout.trim(), JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version)

  const backend = await startBackend(t)
  const [port, admin] = [await freePort(), await freePort()]
  const config = join(scratch, 'tidegate.yaml')
  writeFileSync(
    config,
    `
listen: 127.0.0.1:${port}
admin: { listen: 127.0.0.1:${admin} }
tiers: [free]
services: { api: { upstreams: [${backend.origin}], limits: { free: 1/h } } }
routes: [{ path: /*, service: api }]
server: { shutdown_delay: 0s }
`,
  )
  const start = [...entrypoint, ...image.json.CMD!.map((arg) => (arg.startsWith('/etc/') ? config : arg))]
  const health = () =>
    spawnSync(process.execPath, [...entrypoint, 'health', '--admin', `127.0.0.1:${admin}`], {
      encoding: 'utf8',
    })

  t.test('it serves as process 1, as an ordinary user, on a read-only file system', { skip }, async (t) => {
    const child = spawn('unshare', [...NAMESPACE, INSIDE, 'sh', process.execPath, ...start], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const exited = once(child, 'exit')
    t.teardown(() => child.kill('SIGKILL'))
    let stderr = ''
    await new Promise<void>((ready, fail) => {
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr += text
        if (stderr.includes('tidegate listens on')) ready()
      })
      exited.then(() => fail(new Error(stderr)))
    })
    const statuses: number[] = []
    for (let i = 0; i < 2; i++) {
      const answer = await request(`http://127.0.0.1:${port}/x`)
      await answer.body.dump()
      statuses.push(answer.statusCode)
    }
    t.strictSame(statuses, [200, 429])
    t.match(health(), { status: 0, stdout: 'ready\n' })

    const pid = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim()
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    t.match(status, /^Uid:\t1000\t/m)
    t.match(status, /^NSpid:\t\d+\t1$/m)
    process.kill(Number(pid), 'SIGTERM')
    t.strictSame((await exited)[0], 0, 'process 1 takes SIGTERM')
    t.equal(health().status, 1)
  })
})
