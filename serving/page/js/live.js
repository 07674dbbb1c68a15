// The rows of a view as they change: pushed by the server where it does, else asked for again each second.

import { ApiError, follow, get } from './api.js';

const POLL = 1000;
const RETRY = 2000;
/** Changes within so many milliseconds are shown at once. */
const TOGETHER = 120;
/** Larger views are shown in part, and asked for. */
const PUSHED = 20000;
const PART = 1000;

/**
 * Calls tell({ columns, rows, coverage, partial }) for each new state and trouble(error) while there is none, until it is
 * stopped. `size` says about how many rows the view has.
 */
export class LiveRows {
  constructor(view, { size = 0, tell, trouble }) {
    Object.assign(this, { view, tell, trouble, stopped: new AbortController() });
    this.partial = size > PUSHED;
    this.run();
  }

  stop() {
    this.stopped.abort();
  }

  async run() {
    const { signal } = this.stopped;
    const path = `v1/views/${encodeURIComponent(this.view)}`;
    let pushes = !this.partial;
    while (!signal.aborted) {
      try {
        if (pushes) await this.pushed(`${path}/changes`, signal);
        else await this.polled(path, signal);
      } catch (error) {
        if (signal.aborted) return;
        // No pushes here, or not of so many rows: what is wrong otherwise, asking tells too.
        if (pushes && [400, 404, 405, 406].includes(error.status)) {
          pushes = false;
          // Most likely because they are too many.
          this.partial ||= error.status === 400;
          continue;
        }
        this.trouble(error);
      }
      await wait(RETRY, signal);
    }
  }

  /** Server-sent events: all rows first, and again after a gap; then what changes of them. */
  async pushed(path, signal) {
    const rows = new Rows();
    let [covered, due] = [{}, false];
    const take = (apply) => (data) => {
      apply.call(rows, data);
      covered = { coverage: data.coverage, watermark: data.watermark };
      // Many changes of one moment are shown once.
      if (!due) setTimeout(() => { due = false; if (!signal.aborted) this.tell({ ...rows.whole(), ...covered, partial: false }); }, TOGETHER);
      due = true;
    };
    const failure = (data) => this.trouble(new ApiError(data.detail ?? data.error ?? data.title, data.kind ?? 'unavailable', data.status ?? 503));
    await follow(path, { rows: take(rows.set), changes: take(rows.change), failure }, signal);
  }

  async polled(path, signal) {
    while (!signal.aborted) {
      if (!document.hidden) {
        const { body } = await get(this.partial ? `${path}?limit=${PART}` : path, signal);
        this.tell({ ...body, key: null, partial: this.partial && body.rows.length === PART });
      }
      await wait(this.partial ? 2 * POLL : POLL, signal);
    }
  }
}

/** The rows of a view by their key. Without a key of its own every column is, and a row may be there more than once. */
export class Rows {
  /** All rows. */
  set({ key, columns, rows }) {
    Object.assign(this, { key, columns, byKey: new Map() });
    for (const row of rows) this.put(row);
  }

  /** Takes away the row of each key that went, and puts each row that came in the place of the one of its key. */
  change({ changed, removed }) {
    for (const row of removed) {
      const [id, known] = this.of(row);
      if (known.length > 1) known.pop();
      else this.byKey.delete(id);
    }
    for (const row of changed) this.put(row);
  }

  put(row) {
    const [id, known] = this.of(row);
    this.byKey.set(id, this.key.length < this.columns.length ? [row] : [...known, row]);
  }

  of(row) {
    const id = JSON.stringify(this.key.map((name) => row[name] ?? null), (_, v) => (typeof v === 'bigint' ? `${v}n` : v));
    return [id, this.byKey.get(id) ?? []];
  }

  whole() {
    return { key: this.key, columns: this.columns, rows: [...this.byKey.values()].flat() };
  }
}

function wait(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
