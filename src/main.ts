import type { ConfigSource } from './config/reload.js'
import type { AccessLog } from './telemetry/access-log.js'

export interface GatewayOptions {
  readonly configFile: string
  readonly env?: NodeJS.ProcessEnv
  /** Takes the place of the access log that the configuration asks for: the demo shows requests to a person. */
  readonly accessLog?: AccessLog
}

export interface RunningGateway {
  /** `http://host:port` as bound, with the real port when the config says 0. */
  readonly address: string
  readonly adminAddress: string
  readonly config: ConfigSource
  /** Drains: /readyz 503, in-flight requests finish, then everything is closed. Idempotent.
   * `delayMs` instead of `server.shutdown_delay`: at Ctrl-C no load balancer has to notice first. */
  close(delayMs?: number): Promise<void>
}

/** Opens every socket and wires every part. Rejects with an Error whose message is one line for the operator. */
export declare function startGateway(options: GatewayOptions): Promise<RunningGateway>
