// Streams: all of them, or one with its partitions, newest events, rejected events and late events.

import { TimeChart } from './chart.js';
import { h } from './dom.js';
import { compact, count, rate } from './format.js';
import { declared, platform, SPAN } from './status.js';
import { stream } from './stream.js';

const sum = (list, of) => list.reduce((all, item) => all + (of(item) ?? 0), 0);

export function streams(root, { name }) {
  return name ? stream(root, name) : list(root);
}

function list(root) {
  const tiles = new Map();
  const grid = h('div', { class: 'tiles' });
  root.append(h('div', { class: 'title' }, h('h1', {}, 'Streams')), grid);
  return {
    update() {
      if (!platform.status) return;
      const found = declared(platform.status);
      if (!found.length && !grid.firstChild) grid.append(h('p', { class: 'empty' }, 'This project has no streams. Declare one with CREATE STREAM in a *.sql file, and restart.'));
      for (const status of found) {
        if (!tiles.has(status.name)) tiles.set(status.name, tile(status.name, grid));
        tiles.get(status.name).set(status);
      }
    },
    stop() { for (const found of tiles.values()) found.chart.stop(); },
  };
}

function tile(name, grid) {
  const chart = new TimeChart({ label: `Events per second of ${name}`, height: 120, format: rate, span: SPAN });
  const facts = facted(['Events', 'Lag', 'Rejected', 'Partitions']);
  grid.append(h('article', { class: 'card tile' }, h('header', {}, h('h2', {}, h('a', { href: `#/streams/${encodeURIComponent(name)}` }, name))), h('div', { class: 'body' }, chart.element, facts.element)));
  return {
    chart,
    set(status) {
      const [times, rates] = platform.series((s) => s.streams[name]?.end ?? 0);
      chart.update([{ label: 'events/s', colour: '--muted', fill: true }], [times, rates]);
      facts.set(compact(status.events), count(sum(status.partitions, (p) => p.lag)), count(status.rejected), count(status.partitions.length));
    },
  };
}

/** Names and values side by side. */
export function facted(names) {
  const values = names.map(() => h('dd', {}, '–'));
  const element = h('dl', { class: 'inline-facts' }, names.map((name, i) => h('div', {}, h('dt', {}, name), values[i])));
  return { element, set: (...texts) => texts.forEach((text, i) => { if (values[i].textContent !== text) values[i].textContent = text; }) };
}
