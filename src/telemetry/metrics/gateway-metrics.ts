import type { LookUpCounts } from '../../fleet/look-ups.js'
import { counter, from, fromEach, gauge, setAll } from './define-metric.js'

const NO_LOOK_UPS: LookUpCounts = { found: 0, none: 0, failed: 0, refused: 0 }

/** Metrics of the gateway itself: store, connections, configuration, workers, and what telemetry loses. */
export const GATEWAY_METRICS = {
  storeState: gauge('tidegate.store.state', 'tidegate_store_state', {
    help: '1 for the present state of the store: up, or degraded while the gateway decides without it.',
    labels: ['state'],
    across: 'max',
    read: from('storeState', (storeState, set) => {
      for (const state of ['up', 'degraded']) set(Number(state === storeState), state)
    }),
  }),
  storeForeignKeys: counter('tidegate.store.foreign_keys', 'tidegate_store_foreign_keys_total', {
    unit: '{key}',
    help: 'Keys of the store that held something other than counts. Such a key counts as empty and is overwritten.',
    read: from('foreignKeys', (foreignKeys, set) => set(foreignKeys)),
  }),
  storeProtocolErrors: counter('tidegate.store.protocol_errors', 'tidegate_store_protocol_errors_total', {
    unit: '{connection}',
    help: 'Connections to the store that the gateway closed because the server broke the protocol.',
    read: from('storeProtocolErrors', (storeProtocolErrors, set) => set(storeProtocolErrors)),
  }),
  storeRollbacks: counter('tidegate.store.rollbacks', 'tidegate_store_rollbacks_total', {
    unit: '{rollback}',
    help: 'Times that a process noticed that the store had lost records, by kind of record.',
    labels: ['records'],
    read: fromEach('maps', (map, set) => {
      const { what, rollbacks } = map.history()
      set(rollbacks, what)
    }),
  }),
  storeForgotten: gauge('tidegate.store.forgotten', 'tidegate_store_forgotten', {
    help: '1 while the store has lost some of these records and no operator has decided which ones hold.',
    labels: ['records'],
    across: 'max',
    read: fromEach('maps', (map, set) => {
      const { what, forgottenAt } = map.history()
      set(Number(forgottenAt !== undefined), what)
    }),
  }),
  changesLag: gauge('tidegate.changes.lag', 'tidegate_changes_lag_seconds', {
    unit: 's',
    help: 'Time since the process last knew that its copy of these records was what the store has, by kind of record.',
    labels: ['records'],
    across: 'max',
    read: fromEach('maps', (map, set) => {
      const confirmed = Math.max(map.confirmedAt(), performance.timeOrigin)
      set(Math.max(0, Date.now() - confirmed) / 1000, map.history().what)
    }),
  }),
  storeWhole: gauge('tidegate.store.whole', 'tidegate_store_whole', {
    help: '1 while the process holds all of these records, 0 while it looks up those that it has not seen lately.',
    labels: ['records'],
    across: 'min',
    read: fromEach('maps', (map, set) => {
      const { what, isWhole } = map.history()
      set(Number(isWhole), what)
    }),
  }),
  storeLookUps: counter('tidegate.store.lookups', 'tidegate_store_lookups_total', {
    unit: '{lookup}',
    help: 'Records looked up in the store because the process did not hold them, by result. failed: the store did not answer. refused: there were too many at once.',
    labels: ['records', 'result'],
    read: fromEach('maps', (map, set) => {
      // Starts at 0, so that the first event is an increase.
      const { what, lookUps = NO_LOOK_UPS } = map.history()
      setAll(set, { ...lookUps }, what)
    }),
  }),
  overload: gauge('tidegate.overload', 'tidegate_overload', {
    help: 'Share of the traffic that is shed because the gateway is overloaded, 0 to 1.',
    labels: ['reason'],
    across: 'max',
    read: from('overload', (overload, set) => setAll(set, overload)),
  }),
  connections: gauge('tidegate.connections', 'tidegate_connections', {
    unit: '{connection}',
    help: 'Open client connections.',
    read: from('connections', (connections, set) => set(connections.open)),
  }),
  connectionsRejected: counter('tidegate.connections.rejected', 'tidegate_connections_rejected_total', {
    unit: '{connection}',
    help: 'Client connections closed before their first request, by reason.',
    labels: ['reason'],
    read: from('connections', (connections, set) => setAll(set, connections.rejected)),
  }),
  http2Connections: gauge('tidegate.http2.connections', 'tidegate_http2_connections', {
    unit: '{connection}',
    help: 'Open client connections over HTTP/2.',
    read: from('http2', (http2, set) => set(http2.open)),
  }),
  http2Aborted: counter('tidegate.http2.aborted', 'tidegate_http2_aborted_total', {
    unit: '{connection}',
    help: 'HTTP/2 connections that the gateway closed for abuse, by reason.',
    labels: ['reason'],
    read: from('http2', (http2, set) => setAll(set, http2.closed)),
  }),
  certificateExpiry: gauge(
    'tidegate.tls.certificate_expiry_timestamp',
    'tidegate_tls_certificate_expiry_timestamp_seconds',
    {
      unit: 's',
      help: 'Unix time at which a certificate in use expires.',
      labels: ['certificate'],
      across: 'min',
      read: fromEach('certificates', ({ certificate, notAfter }, set) => set(notAfter / 1000, certificate)),
    },
  ),
  tlsReloads: counter('tidegate.tls.reloads', 'tidegate_tls_reloads_total', {
    unit: '{reload}',
    help: 'Reloads of the certificates, by result.',
    labels: ['result'],
  }),
  configReloads: counter('tidegate.config.reloads', 'tidegate_config_reloads_total', {
    unit: '{reload}',
    help: 'Reloads of the configuration, by result.',
    labels: ['result'],
    across: 'primary',
  }),
  configGood: gauge('tidegate.config.last_reload_successful', 'tidegate_config_last_reload_successful', {
    help: '1 if the last reload of the configuration succeeded, 0 if it was rejected.',
    across: 'primary',
  }),
  configInfo: gauge('tidegate.config.info', 'tidegate_config_info', {
    help: '1, with the hash of the configuration in force, and the group of the gateway if it has one.',
    labels: ['hash', 'group'],
    across: 'primary',
  }),
  configLoaded: gauge('tidegate.config.loaded_timestamp', 'tidegate_config_loaded_timestamp_seconds', {
    unit: 's',
    help: 'Unix time at which the configuration in force was loaded.',
    across: 'primary',
  }),
  workers: gauge('tidegate.workers', 'tidegate_workers', {
    unit: '{process}',
    help: 'Worker processes by state: starting, serving or draining.',
    labels: ['state'],
    across: 'primary',
  }),
  workerExits: counter('tidegate.worker.exits', 'tidegate_worker_exits_total', {
    unit: '{process}',
    help: 'Worker processes that ended: drained, or failed for any other reason.',
    labels: ['result'],
    across: 'primary',
  }),
  logLinesDropped: counter('tidegate.log.lines_dropped', 'tidegate_log_lines_dropped_total', {
    unit: '{line}',
    help: 'Log lines lost because their destination was stuck, full or closed.',
    read: from('logLinesDropped', (logLinesDropped, set) => set(logLinesDropped)),
  }),
  logLinesLeftOut: counter('tidegate.log.lines_left_out', 'tidegate_log_lines_left_out_total', {
    unit: '{line}',
    help: 'Access log lines left out on purpose, by reason.',
    labels: ['reason'],
    read: from('logLinesLeftOut', (logLinesLeftOut, set) => setAll(set, logLinesLeftOut)),
  }),
  meterEvents: counter('tidegate.meter.events', 'tidegate_meter_events_total', {
    unit: '{event}',
    help: 'Usage events that the receiver has taken.',
    read: from('meter', ({ sent }, set) => set(sent)),
  }),
  meterFailures: counter('tidegate.meter.failures', 'tidegate_meter_failures_total', {
    unit: '{batch}',
    help: 'Batches of usage events that the receiver did not take. They are sent again.',
    read: from('meter', ({ failed }, set) => set(failed)),
  }),
  meterLag: gauge('tidegate.meter.lag', 'tidegate_meter_lag_seconds', {
    unit: 's',
    help: 'Age of the oldest interval of usage that waits to be sent, since its end.',
    across: 'max',
    read: from('meter', ({ lag_ms }, set) => set(lag_ms / 1000)),
  }),
  meterUnsaved: gauge('tidegate.meter.unsaved', 'tidegate_meter_unsaved_seconds', {
    unit: 's',
    help: 'How long usage has been in memory only, because it cannot be written to the spool.',
    across: 'max',
    read: from('meter', ({ unsaved_ms }, set) => set(unsaved_ms / 1000)),
  }),
  meterSpool: gauge('tidegate.meter.spool', 'tidegate_meter_spool_bytes', {
    unit: 'By',
    help: 'Size of the usage spool, with the intervals that are kept to be sent again.',
    read: from('meter', ({ spool_bytes }, set) => set(spool_bytes)),
  }),
  spansExported: counter('tidegate.spans.exported', 'tidegate_spans_exported_total', {
    unit: '{span}',
    help: 'Spans that the collector has accepted.',
    read: from('spans', (spans, set) => set(spans.sent)),
  }),
  spansDropped: counter('tidegate.spans.dropped', 'tidegate_spans_dropped_total', {
    unit: '{span}',
    help: 'Lost spans, by reason. rate: requests that were not recorded because there were too many.',
    labels: ['reason'],
    read: from('spans', (spans, set) => setAll(set, spans.dropped)),
  }),
  otlpFailures: counter('tidegate.otlp.export_failures', 'tidegate_otlp_export_failures_total', {
    unit: '{export}',
    help: 'Failed pushes to the OTLP endpoint. The next push of metrics carries the same totals; spans are lost.',
    labels: ['signal'],
    read: from('spans', (spans, set) => set(spans.failed, 'traces')),
  }),
}
