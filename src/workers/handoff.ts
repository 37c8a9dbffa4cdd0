import type { ChildProcess } from 'node:child_process'

/**
 * node:cluster accepts in the primary and hands each connection to a worker, which says whether it takes it. One whose
 * worker is killed in between would be held by the primary for ever, with a client that waits: Node never hears the
 * answer. This gives Node the answer `no` in its place, upon which it hands the connection to another worker.
 *
 * It reads what Node writes between the two processes, which is no promise of Node's: should that change, nothing is
 * found here and all is as if this was not.
 */
export function rescueHandoffs(child: ChildProcess): void {
  const open = new Set<number>()
  const send = child.send.bind(child) as (...args: unknown[]) => boolean
  child.send = ((...args: unknown[]) => {
    const { cmd, act, seq } = args[0] as Internal
    if (cmd === 'NODE_CLUSTER' && act === 'newconn' && seq !== undefined) open.add(seq)
    return send(...args)
  }) as ChildProcess['send']
  child.on('internalMessage', ({ cmd, ack }: Internal) => {
    if (cmd === 'NODE_CLUSTER' && ack !== undefined) open.delete(ack)
  })
  // After Node's own listeners, which take the worker out of the list of those that get connections. Either event may
  // be the only one: while Node waits for a handle to arrive, it does not tell of a disconnect.
  const rescue = () => {
    if (child.connected) return
    for (const seq of open) child.emit('internalMessage', { cmd: 'NODE_CLUSTER', ack: seq, accepted: false })
    open.clear()
  }
  child.on('disconnect', rescue)
  child.on('exit', rescue)
}

interface Internal {
  readonly cmd?: string
  readonly act?: string
  readonly seq?: number
  readonly ack?: number
}
