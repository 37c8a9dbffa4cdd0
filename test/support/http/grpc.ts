import { readFileSync } from 'node:fs'
import {
  type CallOptions,
  type Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  type ClientWritableStream,
  credentials,
  type Metadata,
  makeGenericClientConstructor,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type ServiceError,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import type { Test } from 'tap'

/** A service without a .proto: its messages are text. */

const serialize = (text: string) => Buffer.from(text, 'utf8')
const deserialize = (bytes: Buffer) => bytes.toString('utf8')

function method(name: string, requestStream: boolean, responseStream: boolean) {
  return {
    path: `/test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize,
  }
}

const ECHO: ServiceDefinition = {
  unary: method('Unary', false, false),
  serverStream: method('ServerStream', false, true),
  clientStream: method('ClientStream', true, false),
  bidi: method('Bidi', true, true),
}

/** Starts a real gRPC server on a free port. */
export async function grpcUpstream(t: Test, implementation: UntypedServiceImplementation): Promise<string> {
  const server = new Server()
  server.addService(ECHO, implementation)
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    ),
  )
  t.teardown(() => server.forceShutdown())
  return `http://127.0.0.1:${port}`
}

type Answered = (error: ServiceError | null, value?: string) => void

export interface EchoClient extends Client {
  unary(text: string, metadata: Metadata, options: CallOptions, answered: Answered): ClientUnaryCall
  serverStream(text: string): ClientReadableStream<string>
  clientStream(answered: Answered): ClientWritableStream<string>
  bidi(): ClientDuplexStream<string, string>
}

/** @param ca path of the CA's file, for TLS */
export function grpcClient(t: Test, port: number, ca?: string): EchoClient {
  const Echo = makeGenericClientConstructor(ECHO, 'test.Echo')
  const security = ca === undefined ? credentials.createInsecure() : credentials.createSsl(readFileSync(ca))
  // TLS uses a name: grpc-js would send an address as SNI, which RFC 6066 §3 forbids and Node 26 refuses.
  const host = ca === undefined ? '127.0.0.1' : 'localhost'
  const client = new Echo(`${host}:${port}`, security)
  t.teardown(() => client.close())
  return client as unknown as EchoClient
}
