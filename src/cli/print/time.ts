/** Formats a time of the API to the second: `2026-11-25T05:00:00Z`. */
export function toSecond(iso: string): string {
  return `${iso.slice(0, 19)}Z`
}

/** Formats a time for a table: `2026-11-25 05:00:00Z`. */
export function tableTime(iso: string): string {
  return toSecond(iso).replace('T', ' ')
}

/** Formats a time span in its largest fitting unit: `45 s`, `3 min`, `5 h`, `12 days`. */
export function roundedDuration(ms: number, round: (value: number) => number = Math.round): string {
  const seconds = Math.max(0, round(ms / 1000))
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7_200) return `${round(seconds / 60)} min`
  return seconds < 172_800 ? `${round(seconds / 3_600)} h` : `${round(seconds / 86_400)} days`
}

/** Returns the time since a time of the API. */
export function ago(iso: string, now = Date.now()): string {
  return roundedDuration(now - Date.parse(iso))
}
