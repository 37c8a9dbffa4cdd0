import type { ChildProcess } from 'node:child_process'

/**
 * Returns connections that a killed worker never accepted. node:cluster accepts in the primary and hands each
 * connection to a worker, which answers whether it takes it. If the worker is killed in between, Node never gets the
 * answer: the primary would hold the connection for ever, with a waiting client. This gives Node the answer `no`
 * instead, and Node hands the connection to another worker. It reads Node's internal messages between the two
 * processes, which Node may change. If it does, this finds nothing and has no effect.
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
  // Runs after Node's own listeners, which remove the worker from the list of those that get connections. Either event
  // may be the only one: while Node waits for a handle to arrive, it emits no disconnect.
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
