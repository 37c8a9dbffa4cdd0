/** Runs a job on the generator; `onCounting` is called when its warm-up is over. */
export function generate(load, job, onCounting = () => {}) {
  return new Promise((resolve, reject) => {
    const ended = (code) => reject(new Error(`the load generator ended with ${code}`))
    load.child.once('exit', ended)
    load.child.on('message', function take({ event, figures }) {
      if (event === 'counting') return onCounting()
      load.child.off('message', take)
      load.child.off('exit', ended)
      resolve(figures)
    })
    const { port, pathname } = new URL(job.url)
    load.child.send({ ...job, port: Number(port), path: pathname })
  })
}

/** Returns the faults that make a run invalid. */
export function wrongs(figures) {
  const wrong = []
  if (figures.broken > 0) wrong.push(`${figures.broken} broken connections (${figures.why})`)
  if (figures.unanswered > 0) wrong.push(`${figures.unanswered} requests without an answer`)
  for (const [status, n] of Object.entries(figures.other)) wrong.push(`${n} answers of ${status}`)
  return wrong
}
