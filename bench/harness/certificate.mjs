import { execFileSync } from 'node:child_process'
import path from 'node:path'

/** Makes a certificate of ECDSA on P-256 for this machine. Returns the paths of it and of its key. */
export function certificate(dir) {
  const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(dir, name))
  const args = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '2',
  ]
  const subject = ['-subj', '/CN=127.0.0.1', '-addext', 'subjectAltName=IP:127.0.0.1']
  execFileSync('openssl', [...args, ...subject, '-keyout', key, '-out', cert], { stdio: 'ignore' })
  return { cert, key }
}
