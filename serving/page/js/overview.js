// Overview: is all well, how does the data flow, and where is each stream and view.

import { TimeChart } from './chart.js';
import { bar, legend, total } from './coverage.js';
import { card, h, mark, problem, say, scroll } from './dom.js';
import { ago, compact, count, counted, instant, rate, timeOfDay } from './format.js';
import { DataPath } from './path.js';
import { coverageOf, declared, platform, SPAN } from './status.js';
import { Table } from './table.js';
import { stateOf } from './view-state.js';

const sum = (list, of) => list.reduce((all, item) => all + (of(item) ?? 0), 0);

export function overview(root) {
  const state = stateStrip();
  const path = new DataPath();
  const chart = new TimeChart({ label: 'Events per second', height: 168, format: rate, span: SPAN });
  const bars = new Map();
  const views = new Table({ caption: 'Views', fixed: true, key: (view) => view.name, empty: 'This project has no materialized views.', columns: [
    { head: 'View', name: 'name', width: 'w-name', render: link('views') },
    { head: 'State', name: 'state', width: 'w-state', render: (view, cell) => chipIn(cell, stateOf(view)) },
    { head: 'Coverage', name: 'coverage', width: 'w-bar', render: (view) => barOf(bars, view) },
    { head: 'State rows', name: 'rows', num: true, width: 'w-num', title: 'rows kept in the batch view and above it', render: (view) => compact((view.batch?.rows ?? 0) + (view.speed?.rows ?? 0)) },
    { head: 'Batch view', name: 'batch', width: 'w-time', render: (view) => (view.batch ? ago(platform.now - instant(view.batch.created)) : 'none yet') },
    { head: 'Watermark', name: 'watermark', width: 'w-time', render: (view) => (view.watermark ? timeOfDay(view.watermark).replace(/\.\d+$/, '') : '–') },
    { head: 'Audit', name: 'audit', width: 'w-audit', render: (view, cell) => audit(view, cell) },
  ] });
  const streams = new Table({ caption: 'Streams', fixed: true, key: (stream) => stream.name, empty: 'This project has no streams.', columns: [
    { head: 'Stream', name: 'name', width: 'w-name', render: link('streams') },
    { head: 'Events/s', name: 'rate', num: true, width: 'w-num', render: (stream) => rate(platform.rate((s) => s.streams[stream.name]?.end)) },
    { head: 'Events', name: 'events', num: true, width: 'w-num', render: (stream) => compact(stream.events) },
    { head: 'Lag', name: 'lag', num: true, width: 'w-num', title: 'durable and not folded yet', render: (stream) => count(sum(stream.partitions, (p) => p.lag)) },
    { head: 'Archived', name: 'archived', num: true, width: 'w-num', render: (stream) => compact(sum(stream.partitions, (p) => p.archived_events)) },
    { head: 'Waiting', name: 'waiting', num: true, width: 'w-num', title: 'sealed segments that are not archived yet', render: (stream) => count(sum(stream.partitions, (p) => p.segments_waiting)) },
    { head: 'Rejected', name: 'rejected', num: true, width: 'w-num', render: (stream) => count(stream.rejected) },
    { head: 'Watermark', name: 'watermark', width: 'w-time', render: (stream) => leastWatermark(stream) },
  ] });
  root.append(
    h('h1', { class: 'visually-hidden' }, 'Overview'),
    state.element,
    path.element,
    card('Events per second', h('span', { class: 'muted small' }, 'last five minutes'), h('div', { class: 'body' }, chart.element)),
    card('Views', legend(), scroll('Views', null, views.element)),
    card('Streams', null, scroll('Streams', null, streams.element)),
  );
  return {
    update(problems) {
      state.update(problems);
      path.update(problems);
      if (!platform.status) return;
      views.update(platform.status.views);
      streams.update(declared(platform.status));
      const [times, incoming] = platform.series((s) => s.end);
      const [, folded] = platform.series((s) => s.folded);
      chart.update([{ label: 'into the log', colour: '--muted', fill: true }, { label: 'folded by the speed layer', colour: '--speed' }], [times, incoming, folded]);
    },
    stop: () => chart.stop(),
  };
}

/** One line of a height that never changes: what is worst, or that all is well. It opens to all of it. */
function stateStrip() {
  const [dot, title, text, more] = [h('span', { class: 'dot', 'aria-hidden': 'true' }), h('strong'), h('span', { class: 'muted' }), h('span', { class: 'muted nowrap' })];
  const list = h('div', { class: 'troubles' });
  const element = h('details', { class: 'state-strip' }, h('summary', {}, dot, h('span', { class: 'what' }, title, ' ', text), more), list);
  let told = null;
  return {
    element,
    update(problems) {
      const worst = problems[0];
      mark(element, worst ? `is-${worst.level}` : platform.status ? 'is-good' : '', ['is-good', 'is-warn', 'is-bad']);
      say(title, worst?.title ?? (platform.status ? 'All well.' : 'Connecting.'));
      say(text, worst ? worst.text ?? '' : platform.status ? wellWords(platform.status) : '');
      say(more, problems.length > 1 ? `and ${problems.length - 1} more` : '');
      const next = JSON.stringify(problems);
      if (next === told) return;
      told = next;
      list.replaceChildren(...problems.map((p) => problem(p)), ...(problems.length ? [] : [h('p', { class: 'muted' }, 'Looked at: whether the server and the speed layer answer, the state of each view, lag, segments that wait, rejected events, watermarks, audits, and the age of batch views.')]));
    },
  };
}

function wellWords(status) {
  const equal = sum(status.views, (view) => view.audit?.equal);
  const audits = equal ? ` Batch and speed agree on all ${counted(equal, 'state')} that were compared.` : '';
  return `${status.views.length ? 'Every view answers.' : ''}${audits}`;
}

function link(page) {
  const known = new Map();
  return ({ name }) => {
    if (!known.has(name)) known.set(name, h('a', { href: `#/${page}/${encodeURIComponent(name)}` }, name));
    return known.get(name);
  };
}

/** A chip that stays in its cell, so that it is changed and not replaced. */
export function chipIn(cell, { level, text }) {
  const chip = cell.firstElementChild ?? h('span', { class: 'chip' }, h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span'));
  chip.className = `chip is-${level}`;
  if (chip.lastChild.textContent !== text) chip.lastChild.textContent = text;
  return chip;
}

function barOf(bars, view) {
  if (!bars.has(view.name)) bars.set(view.name, bar());
  const found = bars.get(view.name);
  found.set(total(coverageOf(view, platform.status)));
  return found.element;
}

function audit(view, cell) {
  const { equal = 0, unequal = 0, unaudited = 0 } = view.audit ?? {};
  cell.classList.toggle('bad', unequal > 0);
  if (!view.audit) return 'none yet';
  return unequal ? `${count(unequal)} differ` : `${compact(equal)} equal${unaudited ? `, ${compact(unaudited)} open` : ''}`;
}

function leastWatermark(stream) {
  const least = stream.partitions.filter((p) => !p.idle).map((p) => p.watermark).filter(Boolean).sort()[0];
  return least ? timeOfDay(least).replace(/\.\d+$/, '') : stream.partitions.some((p) => p.watermark) ? 'idle' : '–';
}
