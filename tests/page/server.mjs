// A real `twofold up` on free ports, over a temporary project, stopped again by its id.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

const BINARY = process.env.TWOFOLD_BINARY;
const PATIENCE = 60_000;

const CONFIG = `
[archive]
segment_rows = 1000
segment_age = "2s"
[speed]
listen = "127.0.0.1:0"
retire_grace = "1s"
[serve]
listen = "127.0.0.1:0"
[batch]
schedule = "off"
`;

const VIEWS = `
CREATE STREAM clicks (event_time TIMESTAMP NOT NULL, user_id TEXT NOT NULL, page TEXT NOT NULL, duration_ms BIGINT,
  WATERMARK FOR event_time AS event_time - INTERVAL '5 seconds') WITH (partitions = 2, partition_by = 'user_id');
CREATE MATERIALIZED VIEW clicks_by_page AS
SELECT page, count(*) AS clicks, sum(duration_ms) AS total_ms FROM clicks GROUP BY page;
CREATE MATERIALIZED VIEW clicks_per_10s AS
SELECT tumble(event_time, INTERVAL '10 seconds') AS w, page, count(*) AS clicks FROM clicks GROUP BY 1, 2;
CREATE VIEW top_pages AS SELECT page, clicks FROM clicks_by_page ORDER BY clicks DESC, page LIMIT 3;
`;

/** Starts a server of the project above, with more statements if a test needs them. */
export async function start(more = '') {
  if (!BINARY) throw new Error('TWOFOLD_BINARY names no binary: run scripts/page-test');
  const project = await mkdtemp(path.join(tmpdir(), 'twofold-page-'));
  await writeFile(path.join(project, 'twofold.toml'), CONFIG);
  await writeFile(path.join(project, 'views.sql'), VIEWS + more);
  const child = spawn(BINARY, ['-p', project, 'up'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  const url = await new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`the server did not start:\n${said}`)), PATIENCE);
    const hear = (data) => {
      said += data;
      const found = /twofold is up at (http:\/\/\S+)/.exec(said);
      if (found) { clearTimeout(late); resolve(found[1]); }
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('exit', (code) => { clearTimeout(late); reject(new Error(`the server ended with ${code}:\n${said}`)); });
  });
  return new Server(project, child, url);
}

class Server {
  constructor(project, child, url) {
    Object.assign(this, { project, child, url });
  }

  /** Sends events, and gives the receipt: they are durable then. */
  async ingest(stream, events) {
    const lines = events.map((event) => (typeof event === 'string' ? event : JSON.stringify(event))).join('\n');
    const response = await fetch(`${this.url}/v1/streams/${stream}`, { method: 'POST', headers: { 'Content-Type': 'application/x-ndjson' }, body: lines });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Runs a command on the project to its end. */
  async run(...command) {
    const child = spawn(BINARY, ['-p', this.project, ...command], { stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { said += data; });
    const code = await new Promise((resolve) => { child.on('close', resolve); });
    if (code !== 0) throw new Error(`twofold ${command.join(' ')} ended with ${code}:\n${said}`);
    return said;
  }

  async stop() {
    if (this.child.exitCode === null) {
      const ended = new Promise((resolve) => { this.child.once('exit', resolve); });
      this.child.kill('SIGTERM');
      await ended;
    }
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
    await rm(this.project, { recursive: true, force: true });
  }
}

let clicks = 0;
/** Clicks of now, on these pages in turn. */
export function someClicks(n, pages = ['/home', '/search', '/cart'], at = Date.now()) {
  return Array.from({ length: n }, () => {
    clicks += 1;
    return { event_time: new Date(at).toISOString().replace('Z', ''), user_id: `u${clicks % 17}`, page: pages[clicks % pages.length], duration_ms: 10 + (clicks % 90) };
  });
}
