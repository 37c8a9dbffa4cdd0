import type { ConfigSource } from './config/reload.js'

export interface GatewayOptions {
  readonly configFile: string
  readonly env?: NodeJS.ProcessEnv
}

export interface RunningGateway {
  /** `http://host:port` as bound, with the real port when the config says 0. */
  readonly address: string
  readonly adminAddress: string
  readonly config: ConfigSource
  /** Drains: /readyz 503, in-flight requests finish, then everything is closed. Idempotent. */
  close(): Promise<void>
}

/** Opens every socket and wires every part. Rejects with an Error whose message is one line for the operator. */
export declare function startGateway(options: GatewayOptions): Promise<RunningGateway>
