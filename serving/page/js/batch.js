// Batch and audit: what runs now, what was published, and of each segment whether both layers came to the same.

import { get, sql } from './api.js';
import { card, h, problem, say, scroll } from './dom.js';
import { ago, bytes, compact, count, counted, duration, instant, time } from './format.js';
import { platform } from './status.js';
import { Table } from './table.js';

const EVERY = 3000;
/** A run that was not heard of for so long was broken off. */
const SILENT = 15e3;
/** So many segments of a view are drawn; all of them are counted. */
const DRAWN = 400;

export function batch(root) {
  const running = h('div', { class: 'stack tight running-list' });
  const trouble = h('div', { class: 'trouble' });
  const runs = runTable();
  const audits = h('div', { class: 'audits' });
  const auditSum = h('span', { class: 'muted small' });
  // What grows stands last, and all is shown at once, so that nothing jumps.
  const content = h('div', { class: 'stack', hidden: true },
    card('Running now', null, h('div', { class: 'body' }, running)),
    card('Batch views', h('span', { class: 'muted small' }, 'the newest of each view'), scroll('Batch views', 'var(--runs-height)', runs.element)),
    card('Audit by segment', auditSum, h('div', { class: 'body' }, auditLegend(), audits)));
  root.append(h('div', { class: 'title' }, h('h1', {}, 'Batch and audit')), trouble, content);
  let [stopped, known] = [false, null];
  const shown = new Map();
  (async () => {
    while (!stopped) {
      try {
        if (!document.hidden) {
          const { body, now } = await get('v1/batches');
          const state = stateOf(body.views);
          const found = state === known ? null : await findings();
          if (stopped) return;
          trouble.replaceChildren();
          showRunning(running, body.views, now);
          runs.now = now;
          runs.update(body.views.flatMap((view) => view.batches.map((b, i) => ({ view: view.view, newest: i === 0, before: view.batches[i + 1], ...b }))));
          content.hidden = false;
          if (found) {
            showAudits(audits, shown, found);
            say(auditSum, found.length ? summary(found) : '');
            known = state;
          }
        }
      } catch (error) {
        trouble.replaceChildren(problem({ title: 'What batch runs did cannot be read now', text: error.message }, 'alert'));
      }
      await new Promise((resolve) => { setTimeout(resolve, EVERY); });
    }
  })();
  return { update() {}, stop() { stopped = true; } };
}

function showRunning(place, views, now) {
  const found = views.filter((view) => view.running);
  const lines = found.map(({ view, running: run }) => {
    const silent = now - instant(run.at);
    const off = silent > SILENT;
    const share = run.segments ? Math.round((100 * run.segments_done) / run.segments) : 0;
    const text = off
      ? `broken off ${ago(silent)}, after ${count(run.segments_done)} of ${counted(run.segments, 'segment')}; the next run goes on from there`
      : `${count(run.segments_done)} of ${counted(run.segments, 'segment')}, ${compact(run.events)} events, for ${duration(now - instant(run.started))}`;
    return h('section', { class: 'running', 'aria-label': `Batch run of ${view}` },
      h('div', { class: 'row spread' }, h('b', {}, `${view}, ${run.mode} run`), h('span', { class: off ? 'warn small' : 'muted small' }, text)),
      h('progress', { max: '100', value: String(share), 'aria-label': `${view}: segments folded` }, `${share} %`));
  });
  place.replaceChildren(...(lines.length ? lines : [h('p', { class: 'muted' }, 'No batch run goes on. One that is over in a moment is not seen here: it is in the list below.')]));
}

const covered = (b) => Object.values(b.horizon).flatMap(Object.values).reduce((all, offset) => all + Number(offset), 0);

function runTable() {
  const table = new Table({ caption: 'Batch views that were published', limit: 400, key: (b) => `${b.view} ${b.version} ${b.created}`, sort: { name: 'created', down: true }, empty: 'No batch has run yet. `twofold batch` runs one, and `schedule` in [batch] of twofold.toml makes `up` run it.', columns: [
    { head: 'View', name: 'view', order: (b) => b.view, render: (b) => b.view },
    { head: 'Version', name: 'version', num: true, order: (b) => b.version, render: (b) => count(b.version) },
    { head: 'Published', name: 'created', time: true, order: (b) => b.created, title: 'UTC', render: (b) => `${time(b.created).replace(/\.\d+$/, '')}` },
    { head: 'Mode', name: 'mode', order: (b) => b.mode, render: (b) => b.mode },
    { head: 'Took', name: 'took', num: true, order: (b) => b.elapsed_ms, render: (b) => duration(b.elapsed_ms) },
    { head: 'New offsets', name: 'new', num: true, title: 'covered by it and not by the one before', order: (b) => covered(b) - (b.before ? covered(b.before) : 0), render: (b) => (b.before || b.version === 1 ? compact(covered(b) - (b.before ? covered(b.before) : 0)) : '–') },
    { head: 'Covers', name: 'covers', num: true, order: covered, render: (b) => compact(covered(b)) },
    { head: 'Rows', name: 'rows', num: true, order: (b) => b.rows, render: (b) => compact(b.rows) },
    { head: 'Size', name: 'bytes', num: true, order: (b) => b.bytes, render: (b) => bytes(b.bytes) },
    { head: 'Audit', name: 'audit', order: (b) => -b.audit.unequal.length, render: (b, cell) => auditOf(b.audit, cell) },
  ] });
  return table;
}

function auditOf({ equal, unaudited, unequal }, cell) {
  cell.classList.toggle('bad', unequal.length > 0);
  return [unequal.length && `${count(unequal.length)} DIFFER`, `${count(equal)} equal`, unaudited && `${count(unaudited)} open`].filter(Boolean).join(', ');
}

async function findings() {
  const { rows } = await sql('SELECT a."view" AS view_name, cut, stream, partition, start_offset, end_offset, equal, run, at FROM twofold_audit a ORDER BY 1, 3, 4, 5, 2');
  return rows;
}

/** What findings depend on: they are read again when it changes. */
function stateOf(views) {
  const audits = platform.status?.views.map((view) => view.audit) ?? [];
  return JSON.stringify([audits, views.map((view) => view.batches[0]?.version)]);
}

const kind = ({ equal }) => (equal === true ? 'equal' : equal === false ? 'unequal' : 'open');
const summary = (found) => ['equal', 'open', 'unequal'].map((k) => [k, found.filter((f) => kind(f) === k).length]).filter(([, n]) => n).map(([k, n]) => `${count(n)} ${{ equal: 'equal', open: 'not comparable', unequal: 'DIFFER' }[k]}`).join(', ');

const auditLegend = () => h('div', { class: 'key' }, h('span', { class: 'accent' }, 'same state in both layers'), h('span', {}, 'not comparable: the speed layer left no digest'), h('span', { class: 'bad' }, 'differ'));

/** For each view and partition the segments in a row: a cell for each, in the colour of what was found. */
function showAudits(place, shown, found) {
  const views = new Map();
  for (const finding of found) {
    const of = finding.stream === null ? 'whole batch view' : `${finding.stream}, partition ${finding.partition}`;
    if (!views.has(finding.view_name)) views.set(finding.view_name, new Map());
    const groups = views.get(finding.view_name);
    if (!groups.has(of)) groups.set(of, new Map());
    const range = finding.stream === null ? `full run ${finding.at}` : `[${count(finding.start_offset)}, ${count(finding.end_offset)})`;
    const cells = groups.get(of);
    // Of several cuts the worst is drawn.
    const order = { equal: 0, open: 1, unequal: 2 };
    if (!cells.has(range) || order[kind(finding)] > order[kind(cells.get(range))]) cells.set(range, finding);
  }
  if (!views.size) { place.replaceChildren(h('p', { class: 'empty' }, 'Nothing is compared yet: each batch run does, and `twofold audit`.')); shown.clear(); return; }
  for (const [name, groups] of views) {
    const state = JSON.stringify([...groups].map(([of, cells]) => [of, cells.size, [...cells.values()].map(kind).join('')]));
    if (shown.get(name)?.state === state) continue;
    const section = h('section', { 'aria-label': `Audit of ${name}` }, h('h3', {}, name), [...groups].map(([of, cells]) => strip(of, cells)));
    if (shown.has(name)) shown.get(name).section.replaceWith(section);
    else { if (!shown.size) place.replaceChildren(); place.append(section); }
    shown.set(name, { section, state });
  }
}

function strip(of, cells) {
  const all = [...cells];
  const drawn = all.slice(-DRAWN);
  const differing = all.filter(([, finding]) => kind(finding) === 'unequal').map(([range]) => range);
  const label = `${of}: ${summary([...cells.values()])}`;
  return h('div', { class: 'strip' },
    h('span', { class: 'small' }, of),
    h('div', { class: 'cells', role: 'img', 'aria-label': label }, drawn.map(([range, finding]) => h('i', { class: kind(finding), title: `${range}: ${{ equal: 'same state', open: 'not comparable', unequal: 'DIFFER' }[kind(finding)]}, ${finding.run} ${time(finding.at)}` }))),
    h('span', { class: differing.length ? 'bad small' : 'muted small' }, differing.length ? `differ: ${differing.slice(0, 5).join(', ')}` : summary([...cells.values()])));
}
