// One stream: rates, partitions, the newest events, what was rejected and why, and what came late.

import { sql } from './api.js';
import { catalog } from './catalog.js';
import { TimeChart } from './chart.js';
import { card, h, problem, say, scroll } from './dom.js';
import { count, duration, fromHex, rate, time, timeOfDay, value } from './format.js';
import { platform, SPAN } from './status.js';
import { Table } from './table.js';
import { literal, quoted } from './words.js';

/** How many of the newest events are shown, and how often they are looked up. */
const NEWEST = 30;
const EVERY = 2000;
const RARELY = 10000;

export function stream(root, name) {
  const chart = new TimeChart({ label: `Events per second of ${name}`, height: 168, format: rate, span: SPAN });
  const facts = h('p', { class: 'muted small facts-line' });
  const partitions = partitionTable();
  const [recent, rejected, late] = ['Newest events', 'Rejected events', 'Late events'].map(() => h('div', {}, h('p', { class: 'empty' }, 'Reading…')));
  const pause = h('button', { class: 'button quiet', type: 'button', 'aria-pressed': 'false', onclick: () => { const on = pause.getAttribute('aria-pressed') !== 'true'; pause.setAttribute('aria-pressed', String(on)); } }, 'Pause');
  const inSql = (text) => h('a', { class: 'button quiet', href: `#/sql?q=${encodeURIComponent(text)}` }, 'In SQL');
  root.append(
    h('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, h('a', { href: '#/streams' }, 'Streams')),
    h('div', { class: 'title' }, h('h1', {}, name)), facts,
    card('Events per second', h('span', { class: 'muted small' }, 'last five minutes'), h('div', { class: 'body' }, chart.element)),
    card('Partitions', null, scroll('Partitions', null, partitions.element)),
    card('Newest events', pause, recent),
    h('div', { class: 'columns even' },
      card('Rejected events', inSql(`SELECT reason, CAST(raw AS TEXT) AS raw\nFROM ${quoted(`${name}_rejected`)}\nLIMIT 100`), rejected),
      card('Late events', inSql(`SELECT *\nFROM twofold_late_events\nWHERE stream = ${literal(name)}`), late)));

  const stopped = new AbortController();
  const repeat = async (every, body, read) => {
    while (!stopped.signal.aborted) {
      try {
        if (!document.hidden && platform.status) await read(body);
      } catch (error) {
        if (stopped.signal.aborted) return;
        body.replaceChildren(h('div', { class: 'body padded' }, problem({ title: 'This cannot be read now', text: error.message, level: 'warn' })));
        body.table = null;
      }
      await new Promise((resolve) => { setTimeout(resolve, platform.status ? every : 200); });
    }
  };
  catalog().then(({ streams }) => {
    const found = streams.find((s) => s.name === name);
    if (!found) { say(facts, 'There is no such stream.'); return; }
    say(facts, [`${found.columns.length} columns`, found.partition_by ? `partitioned by ${found.partition_by}` : 'partitioned in turn', found.watermark ? `watermark ${found.watermark}` : 'no watermark', found.deduplicate_by && `repeated ${found.deduplicate_by} left out`].filter(Boolean).join(' · '));
  }, () => {});
  repeat(EVERY, recent, (body) => (pause.getAttribute('aria-pressed') === 'true' ? null : readRecent(name, body, stopped.signal)));
  repeat(RARELY, rejected, (body) => readRejected(name, body, stopped.signal));
  repeat(RARELY, late, (body) => readLate(name, body, stopped.signal));
  return {
    update() {
      const status = platform.status?.streams.find((s) => s.name === name);
      if (!status) return;
      const [times, rates] = platform.series((s) => s.streams[name]?.end ?? 0);
      const [, folded] = platform.series((s) => s.streams[name]?.folded ?? 0);
      chart.update([{ label: 'into the log', colour: '--muted', fill: true }, { label: 'folded by the speed layer', colour: '--speed' }], [times, rates, folded]);
      partitions.update(status.partitions);
    },
    stop() { stopped.abort(); chart.stop(); },
  };
}

function partitionTable() {
  const number = (head, name, title) => ({ head, name, num: true, title, width: 'w-num', render: (p) => count(p[name]) });
  return new Table({ caption: 'Partitions', fixed: true, key: (p) => p.partition, columns: [
    { head: 'Partition', name: 'partition', width: 'w-num', render: (p) => `${p.partition}${p.idle ? ' (idle)' : ''}` },
    { head: 'In the log', name: 'log', width: 'w-time', title: 'offsets that the log still holds', render: (p) => (p.log_end === null ? '?' : `[${count(p.log_start)}, ${count(p.log_end)})`) },
    number('Folded', 'folded', 'the offset up to which the speed layer has folded'), number('Lag', 'lag', 'durable and not folded yet'), number('Archived', 'archived', 'the offset up to which events are archived'),
    number('Segments', 'segments'), number('Waiting', 'segments_waiting', 'sealed and not archived yet'),
    { head: 'Watermark', name: 'watermark', width: 'w-time', render: (p) => (p.watermark ? timeOfDay(p.watermark) : '–') },
  ] });
}

/** The newest of all partitions, by the time at which they were taken in. Asks for the last offsets only. */
async function readRecent(name, body, signal) {
  const { partitions } = platform.status.streams.find((s) => s.name === name) ?? { partitions: [] };
  const asked = partitions.filter((p) => (p.log_end ?? p.archived) > 0).map((p) => sql(`SELECT * FROM ${quoted(name)} WHERE _partition = ${p.partition} AND _offset >= ${Math.max(0, (p.log_end ?? p.archived) - NEWEST)}`, signal));
  const answers = await Promise.all(asked);
  const rows = answers.flatMap((answer) => answer.rows).sort((a, b) => (a._ingest_time < b._ingest_time ? 1 : a._ingest_time > b._ingest_time ? -1 : b._offset - a._offset)).slice(0, NEWEST);
  if (!answers.length) { body.replaceChildren(h('p', { class: 'empty' }, 'No events yet.')); body.table = null; return; }
  body.table ??= fresh(body, `Newest events of ${name}`, 'var(--recent-height)', new Table({ columns: answers[0].columns, caption: `Newest events of ${name}`, limit: NEWEST, key: (row) => `${row._partition}/${row._offset}` }));
  body.table.update(rows);
}

async function readRejected(name, body, signal) {
  const status = platform.status.streams.find((s) => s.name === name);
  const own = platform.status.streams.find((s) => s.name === `${name}_rejected`);
  if (!status?.rejected || !own) { body.replaceChildren(h('p', { class: 'empty' }, 'None: every event was taken in.')); return; }
  const from = quoted(own.name);
  const end = Math.max(...own.partitions.map((p) => p.log_end ?? p.archived));
  const [reasons, newest] = await Promise.all([
    sql(`SELECT reason, count(*) AS n FROM ${from} GROUP BY reason ORDER BY n DESC, reason LIMIT 10`, signal),
    sql(`SELECT _offset, reason, raw FROM ${from} WHERE _offset >= ${Math.max(0, end - 5)} ORDER BY _offset DESC`, signal),
  ]);
  const list = reasons.rows.map((row) => h('li', {}, h('b', { class: 'num' }, count(row.n)), h('span', {}, row.reason)));
  const last = newest.rows.map((row) => h('li', {}, h('code', {}, shortened(fromHex(row.raw))), h('small', { class: 'muted' }, `offset ${row._offset}: ${row.reason}`)));
  body.replaceChildren(h('div', { class: 'body padded' }, h('h3', {}, 'Reasons'), h('ul', { class: 'reasons' }, list), h('h3', { class: 'gap' }, 'The last ones, as they came'), h('ul', { class: 'raw' }, last)));
}

const shortened = (text) => (text.length > 400 ? `${text.slice(0, 400)}…` : text);

async function readLate(name, body, signal) {
  const { rows } = await sql(`SELECT l."view" AS view_name, sum(count) AS events, count(*) AS windows, max(worst_lateness_ms) AS worst FROM twofold_late_events l WHERE stream = ${literal(name)} GROUP BY 1 ORDER BY 2 DESC`, signal);
  const newest = rows.length ? (await sql(`SELECT l."view" AS view_name, window_start, window_end, sum(count) AS events FROM twofold_late_events l WHERE stream = ${literal(name)} AND window_end IS NOT NULL GROUP BY 1, 2, 3 ORDER BY window_end DESC LIMIT 8`, signal)).rows : [];
  if (!rows.length) { body.replaceChildren(h('p', { class: 'empty' }, 'None: no event came after the end of its window.')); return; }
  const views = new Table({ caption: 'Late events by view', columns: [
    { head: 'View', name: 'view', render: (row) => row.view_name },
    { head: 'Events', name: 'events', num: true, render: (row) => value(row.events, 'BIGINT') },
    { head: 'Windows', name: 'windows', num: true, render: (row) => count(row.windows) },
    { head: 'Latest by', name: 'worst', num: true, title: 'the greatest lateness', render: (row) => duration(Number(row.worst)) },
  ] });
  views.update(rows);
  const list = newest.map((row) => h('li', {}, h('b', { class: 'num' }, count(row.events)), h('span', {}, `${row.view_name}, window ${time(row.window_start)} – ${time(row.window_end).slice(11)}`)));
  body.replaceChildren(scroll('Late events by view', null, views.element), ...(list.length ? [h('div', { class: 'body padded' }, h('h3', {}, 'The newest windows with late events'), h('ul', { class: 'reasons' }, list))] : []), h('p', { class: 'made muted small' }, 'They are folded into their windows all the same. An event is counted for each view in which it was late.'));
}

function fresh(body, label, height, table) {
  body.replaceChildren(scroll(label, height, table.element));
  return table;
}
