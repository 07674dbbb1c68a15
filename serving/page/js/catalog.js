// What the project declares. Asked for again after half a minute: tables and versions may change under a running server.

import { get } from './api.js';

const FRESH = 30e3;
let known = null;

export async function catalog() {
  if (!known || performance.now() - known.at > FRESH) known = { at: performance.now(), answer: get('v1/catalog').then(({ body }) => body) };
  try {
    return await known.answer;
  } catch (e) {
    known = null;
    throw e;
  }
}

/** Relations that are there without being declared. */
export const OWN = [
  { name: 'twofold_audit', kind: 'audits', columns: ['view', 'fingerprint', 'cut', 'stream', 'partition', 'start_offset', 'end_offset', 'speed_digest', 'incremental_digest', 'batch_digest', 'equal', 'explainable', 'run', 'at'] },
  { name: 'twofold_late_events', kind: 'late events', columns: ['stream', 'view', 'partition', 'window_start', 'window_end', 'count', 'worst_lateness_ms'] },
];

/** All relations as { name, kind, columns: [names] }. */
export function relations({ views, streams, tables }) {
  const names = (columns) => columns.map((column) => column.name);
  return [
    ...views.map((view) => ({ name: view.name, kind: view.materialized ? 'materialized view' : 'view', columns: names(view.columns) })),
    ...streams.map((stream) => ({ name: stream.name, kind: 'stream', columns: [...names(stream.columns), '_partition', '_offset', '_ingest_time'] })),
    ...tables.map((table) => ({ name: table.name, kind: 'table', columns: names(table.columns) })),
    ...OWN,
  ];
}
