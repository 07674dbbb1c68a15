// Views: all of them, or one with its rows, coverage and definition.

import { catalog } from './catalog.js';
import { bar, legend, total } from './coverage.js';
import { h, problem, say } from './dom.js';
import { chipIn } from './overview.js';
import { compact } from './format.js';
import { coverageOf, platform } from './status.js';
import { view } from './view.js';
import { stateOf } from './view-state.js';
import { sqlBlock } from './words.js';

export function views(root, { name }) {
  return name ? view(root, name) : list(root);
}

function list(root) {
  const cards = new Map();
  const grid = h('div', { class: 'tiles' });
  root.append(h('div', { class: 'title' }, h('h1', {}, 'Views'), legend()), grid);
  let stopped = false;
  const update = () => {
    for (const status of platform.status?.views ?? []) cards.get(status.name)?.(status);
  };
  catalog().then(({ views: all }) => {
    if (stopped) return;
    if (!all.length) grid.append(h('p', { class: 'empty' }, 'This project has no views. Declare one with CREATE MATERIALIZED VIEW in a *.sql file, and restart.'));
    for (const definition of all) {
      const tile = tileOf(definition);
      grid.append(tile.element);
      if (definition.materialized) cards.set(definition.name, tile.set);
    }
    update();
  }, (error) => { grid.replaceChildren(problem({ title: 'The views cannot be listed', text: error.message }, 'alert')); });
  return { update, stop: () => { stopped = true; } };
}

function tileOf(definition) {
  const covered = bar();
  const state = h('span');
  const rows = h('span', { class: 'muted small' }, definition.materialized ? '' : 'computed when it is asked for');
  state.append(chipIn(state, stateOf(definition.materialized ? { state: 'live' } : definition)));
  const element = h('article', { class: 'card tile' },
    h('header', {}, h('h2', {}, h('a', { href: `#/views/${encodeURIComponent(definition.name)}` }, definition.name)), state),
    h('div', { class: 'body' }, definition.materialized ? covered.element : h('div', { class: 'bar-room' }), rows, h('div', { class: 'sql-box' }, sqlBlock(definition.sql))));
  const set = (status) => {
    chipIn(state, stateOf(status));
    covered.set(total(coverageOf(status, platform.status)));
    say(rows, `${compact((status.batch?.rows ?? 0) + (status.speed?.rows ?? 0))} state rows, ${status.batch ? `batch view version ${status.batch.version}` : 'no batch view yet'}`);
  };
  return { element, set };
}
