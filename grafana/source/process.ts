import type { Dashboard } from './dashboard.js'
import { max, ofNode, rate, sum } from './query.js'

/** A line for each process: with --workers a gateway has several. Without it, `worker` is empty. */
const PROCESS = 'instance, worker'
const NAME = '{{instance}} {{worker}}'

export const PROCESS_BOARD: Dashboard = {
  uid: 'tidegate-process',
  title: 'Tidegate: process',
  text: 'Health of the gateways: event loop, memory, connections, files, configuration, workers, and what telemetry loses.',
  choose: [],
  rows: [
    {
      title: 'Now',
      panels: [
        {
          kind: 'stat',
          title: 'Gateways',
          text: 'Gateways that answer Prometheus. If some are missing, the alert TidegateDown names them.',
          thresholds: { red: 1, below: true },
          nothing: 'none',
          queries: { gateways: `count(${ofNode('tidegate_config_info')})` },
        },
        {
          kind: 'stat',
          title: 'Configurations in force',
          text: 'The most in one group of gateways. More than 1 for longer than a rollout takes: a gateway did not get the new file, or rejected it. "Configuration" below says which.',
          thresholds: { orange: 2 },
          nothing: 'none',
          queries: {
            hashes: `max(count by (group) (count by (group, hash) (${ofNode('tidegate_config_info')})))`,
          },
        },
        {
          kind: 'stat',
          title: 'Event loop, p99',
          text: 'Delay of the event loop of the slowest process. All its requests wait that long. An idle process shows 10 ms, the resolution of the clock. Above 100 ms: add workers or gateways.',
          unit: 's',
          thresholds: { orange: 0.05, red: 0.1 },
          queries: { p99: max(ofNode('nodejs_eventloop_lag_p99_seconds')) },
        },
        {
          kind: 'stat',
          title: 'Busiest process',
          text: 'CPU of the busiest process, in cores. One process can use little more than one: at 0.8 add workers.',
          decimals: 2,
          thresholds: { orange: 0.8, red: 0.95 },
          queries: { cores: max(rate(ofNode('process_cpu_seconds_total'))) },
        },
        {
          kind: 'stat',
          title: 'Shed by the gateways themselves',
          text: 'Share of its traffic that the most loaded gateway sheds because its event loop or heap is full. Above 0: add gateways.',
          unit: 'percentunit',
          thresholds: { red: 0.01 },
          queries: { shed: max(ofNode('tidegate_overload')) },
        },
        {
          kind: 'stat',
          title: 'First certificate to expire',
          text: 'Time until the first certificate expires. Renew it in place: the gateway reads it again by itself.',
          unit: 's',
          thresholds: { orange: 14 * 86_400, red: 3 * 86_400, below: true },
          nothing: 'no TLS here',
          queries: { left: `min(${ofNode('tidegate_tls_certificate_expiry_timestamp_seconds')}) - time()` },
        },
      ],
    },
    {
      title: 'Work and memory',
      panels: [
        {
          kind: 'lines',
          title: 'Event loop delay: p99 and maximum',
          text: 'Since the last scrape. Peaks without load: garbage collection, or a large configuration that is loaded. From 200 ms on requests are shed.',
          unit: 's',
          thresholds: { red: 0.2 },
          queries: {
            [`${NAME} p99`]: max(ofNode('nodejs_eventloop_lag_p99_seconds'), PROCESS),
            [`${NAME} most`]: max(ofNode('nodejs_eventloop_lag_max_seconds'), PROCESS),
          },
        },
        {
          kind: 'lines',
          title: 'CPU',
          text: 'In cores. More for the same traffic: heavier features (compression, TLS handshakes), or garbage collection.',
          queries: { [NAME]: sum(rate(ofNode('process_cpu_seconds_total')), PROCESS) },
        },
        {
          kind: 'lines',
          title: 'Time in garbage collection',
          text: 'Share of the time that a process collects garbage, by kind. Above 10 %: the heap is too small (NODE_OPTIONS=--max-old-space-size), or something grows.',
          unit: 'percentunit',
          min: 0,
          thresholds: { red: 0.1 },
          queries: {
            [`${NAME} {{kind}}`]: sum(rate(ofNode('nodejs_gc_duration_seconds_sum')), `${PROCESS}, kind`),
          },
        },
        {
          kind: 'lines',
          title: 'JavaScript heap: used, and taken',
          text: 'If used only goes up over hours, that is a leak: restart, and report it. At 85 % of what Node allows, requests are shed.',
          unit: 'bytes',
          width: 12,
          queries: {
            [`${NAME} used`]: sum(ofNode('nodejs_heap_size_used_bytes'), PROCESS),
            [`${NAME} taken`]: sum(ofNode('nodejs_heap_size_total_bytes'), PROCESS),
          },
        },
        {
          kind: 'lines',
          title: 'Resident memory',
          text: 'Memory as the operating system counts it: heap, buffers and code.',
          unit: 'bytes',
          width: 12,
          queries: { [NAME]: sum(ofNode('process_resident_memory_bytes'), PROCESS) },
        },
      ],
    },
    {
      title: 'Connections',
      panels: [
        {
          kind: 'lines',
          title: 'Open connections of clients',
          text: 'All, and those over HTTP/2. Far more than requests in flight is normal: clients keep connections open.',
          unit: 'short',
          queries: {
            '{{instance}}': sum(ofNode('tidegate_connections'), 'instance'),
            '{{instance}} HTTP/2': sum(ofNode('tidegate_http2_connections'), 'instance'),
          },
        },
        {
          kind: 'stacked',
          title: 'Connections rejected or closed for abuse',
          text: 'total: server.max_connections is reached, raise it or add gateways. per_client: one address has too many. tls: no handshake. resets, pings, settings, protocol: floods over HTTP/2. docs/security.md.',
          unit: 'cps',
          queries: {
            '{{reason}}': sum(rate(ofNode('tidegate_connections_rejected_total')), 'reason'),
            'HTTP/2 {{reason}}': sum(rate(ofNode('tidegate_http2_aborted_total')), 'reason'),
          },
        },
        {
          kind: 'lines',
          title: 'File descriptors in use',
          text: 'Share of what the process may open; one or two a connection. At 80 % raise the limit (LimitNOFILE, ulimit -n): past it connections are refused.',
          unit: 'percentunit',
          min: 0,
          max: 1,
          thresholds: { red: 0.8 },
          queries: { [NAME]: max(`${ofNode('process_open_fds')} / ${ofNode('process_max_fds')}`, PROCESS) },
        },
      ],
    },
    {
      title: 'Configuration and workers',
      panels: [
        {
          kind: 'table',
          title: 'Configuration',
          text: 'Which configuration each gateway runs. `tidegate fleet` says why one differs.',
          unit: 's',
          queries: {
            'in force for': `time() - ${ofNode('tidegate_config_loaded_timestamp_seconds')} + on (job, instance) group_left (hash, group) 0 * ${ofNode('tidegate_config_info')}`,
          },
        },
        {
          kind: 'lines',
          title: 'Configurations and certificates loaded',
          text: 'In the last five minutes, by result. rejected: the last good one stays; the log has the reason with line and column.',
          unit: 'short',
          decimals: 0,
          colors: { applied$: 'green', rejected$: 'red', unchanged$: 'blue' },
          queries: {
            '{{instance}} configuration {{result}}': sum(
              `increase(${ofNode('tidegate_config_reloads_total')}[5m])`,
              'instance, result',
            ),
            '{{instance}} certificates {{result}}': sum(
              `increase(${ofNode('tidegate_tls_reloads_total')}[5m])`,
              'instance, result',
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Workers, and their ends',
          text: 'Only with --workers. Ends that failed: a worker crashed, its log has a fatal line; another takes its place after a second, later more slowly.',
          unit: 'short',
          nothing: 'no workers here',
          colors: { serving$: 'green', failed: 'red' },
          queries: {
            '{{instance}} {{state}}': sum(ofNode('tidegate_workers'), 'instance, state'),
            '{{instance}} ended in 5 min: {{result}}': sum(
              `increase(${ofNode('tidegate_worker_exits_total')}[5m])`,
              'instance, result',
            ),
          },
        },
        {
          kind: 'lines',
          title: 'Up for',
          text: 'Time since each process started. A saw pattern is a crash loop: see its last log lines.',
          unit: 's',
          width: 12,
          queries: { [NAME]: `time() - ${max(ofNode('process_start_time_seconds'), PROCESS)}` },
        },
        {
          kind: 'lines',
          title: 'Lost by telemetry',
          text: 'A second: log lines whose destination was stuck or full, pushes over OTLP that failed, spans that were lost (queue, export) or not recorded (rate), and access log lines that were left out on purpose. Requests wait for none of it; look at the disk, and at the collector.',
          unit: 'cps',
          width: 12,
          queries: {
            '{{instance}} log lines': sum(rate(ofNode('tidegate_log_lines_dropped_total')), 'instance'),
            '{{instance}} pushes of {{signal}}': sum(
              rate(ofNode('tidegate_otlp_export_failures_total')),
              'instance, signal',
            ),
            '{{instance}} spans: {{reason}}': sum(
              rate(ofNode('tidegate_spans_dropped_total')),
              'instance, reason',
            ),
            '{{instance}} log lines left out: {{reason}}': sum(
              rate(ofNode('tidegate_log_lines_left_out_total')),
              'instance, reason',
            ),
          },
        },
      ],
    },
  ],
}
