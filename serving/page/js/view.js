// One view: its rows as they change, a chart of them, what they are made of, and what the view is.

import { catalog } from './catalog.js';
import { Coverage } from './coverage.js';
import { card, h, problem, say, scroll } from './dom.js';
import { Figure } from './figure.js';
import { ago, count, counted, instant, isNumber, timeOfDay } from './format.js';
import { LiveRows } from './live.js';
import { chipIn } from './overview.js';
import { choices, usual } from './pick.js';
import { coverageOf, platform } from './status.js';
import { Table } from './table.js';
import { stateOf } from './view-state.js';
import { quoted, sqlBlock } from './words.js';

const SHOWN = 300;

export function view(root, name) {
  const state = h('span');
  const facts = h('p', { class: 'muted small facts-line' });
  const number = h('span', { class: 'muted small' });
  const trouble = h('div', { class: 'trouble' });
  const rowsBody = h('div', { class: 'rows-body' }, h('p', { class: 'empty' }, 'Reading the rows…'));
  const waiting = h('p', { class: 'empty' }, 'Reading the rows…');
  const figureBody = h('div', { class: 'body figure-body' });
  const coverage = new Coverage();
  const definition = h('div', { class: 'body' });
  const columnsBody = h('div');
  const aside = h('div', { class: 'stack' }, card('Coverage', null, h('div', { class: 'body' }, coverage.element)), card('Columns', null, columnsBody), card('Definition', null, definition));
  const chartCard = card('Chart', null, figureBody);
  const content = h('div', { class: 'columns', hidden: true }, h('div', { class: 'stack' }, chartCard, card('Rows', number, rowsBody)), aside);
  root.append(
    h('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, h('a', { href: '#/views' }, 'Views')),
    h('div', { class: 'title' }, h('h1', {}, name), state, h('a', { class: 'button', href: `#/sql?q=${encodeURIComponent(`SELECT *\nFROM ${quoted(name)}\nLIMIT 100`)}` }, 'Query in SQL')),
    facts, trouble, waiting, content);

  let [table, figure, live, stopped, described] = [null, null, null, false, false];
  // All of it is shown at once, so that nothing jumps when one part comes after the other.
  const reveal = () => {
    if (!described || !platform.isSettled || !(table || trouble.firstChild)) return;
    content.hidden = false;
    waiting.hidden = true;
    if (table) figure.update(table.rows);
  };
  const tell = ({ columns, rows, key, coverage: covered, partial }) => {
    trouble.replaceChildren();
    if (!table) ({ table, figure } = build(name, columns, rows, rowsBody, figureBody, chartCard));
    table.key = keyOf(columns, key);
    table.update(rows);
    if (content.hidden) reveal();
    else figure.update(rows);
    const shown = Math.min(rows.length, SHOWN);
    say(number, partial ? `the first ${count(rows.length)} as the server gives them; use SQL for others` : shown < rows.length ? `${count(shown)} of ${counted(rows.length, 'row')}, sort by any column` : counted(rows.length, 'row'));
    if (covered?.length && !platform.status?.views.some((v) => v.name === name)) coverage.update(fromAnswer(covered));
  };
  const onTrouble = (error) => {
    trouble.replaceChildren(problem({ title: error.status === 404 ? 'There is no such view' : 'The rows cannot be read now', text: error.message, todo: error.kind === 'unavailable' || !error.status ? 'The page tries again by itself.' : undefined }, 'alert'));
    reveal();
  };

  const update = () => {
    const status = platform.status?.views.find((v) => v.name === name);
    if (platform.isSettled && !live && !stopped) live = new LiveRows(name, { size: (status?.batch?.rows ?? 0) + (status?.speed?.rows ?? 0), tell, trouble: onTrouble });
    const known = status ?? (platform.status?.query_views.includes(name) ? { materialized: false } : null);
    if (known && !state.firstChild) state.append(chipIn(state, stateOf(known)));
    if (known) chipIn(state, stateOf(known));
    if (!status) { say(facts, known ? 'Computed from other relations when it is asked for: it keeps nothing.' : ''); return; }
    coverage.update(coverageOf(status, platform.status));
    if (content.hidden) reveal();
    const batch = status.batch ? `batch view version ${status.batch.version}, ${status.batch.mode}, ${ago(platform.now - instant(status.batch.created))}` : 'no batch view yet';
    say(facts, `Version ${status.fingerprint.slice(0, 16)} · ${batch} · watermark ${status.watermark ? timeOfDay(status.watermark) : '–'}`);
  };
  catalog().then(({ views }) => {
    const found = views.find((v) => v.name === name);
    if (found) describe(found, columnsBody, definition);
    else aside.hidden = true;
  }, onTrouble).finally(() => { described = true; reveal(); });
  return {
    update,
    stop() {
      stopped = true;
      live?.stop();
      figure?.stop();
    },
  };
}

/** The table and the chart, when the columns are known. */
function build(name, columns, rows, rowsBody, figureBody, chartCard) {
  const can = choices(columns);
  const over = usual(can, rows);
  const by = can.times.includes(over) ? over : can.values[0];
  const table = new Table({ columns, caption: `Rows of ${name}`, flash: true, limit: SHOWN, sort: by ? { name: by, down: true } : null, empty: 'The view has no rows yet.' });
  rowsBody.replaceChildren(scroll(`Rows of ${name}`, 'var(--rows-height)', table.element));
  const figure = new Figure(columns, { label: `Chart of ${name}` });
  figureBody.replaceChildren(figure.element);
  chartCard.hidden = !figure.possible;
  return { table, figure };
}

/** What makes a row the same row: the key that the server names, else all that is not a number. */
function keyOf(columns, key) {
  const names = key?.length ? key : columns.filter((c) => !isNumber(c.type)).map((c) => c.name);
  return names.length ? (row) => JSON.stringify(names.map((n) => row[n]), (_, v) => (typeof v === 'bigint' ? String(v) : v)) : null;
}

function fromAnswer(covered) {
  return covered.map((part) => ({ stream: part.relation === part.stream ? part.stream : `${part.relation}: ${part.stream}`, partition: part.partition, batch: part.batch[1], folded: part.speed[1], end: part.speed[1], watermark: part.watermark, idle: part.idle }));
}

function describe(found, columnsBody, definition) {
  const columns = new Table({ caption: 'Columns', columns: [
    { head: 'Column', name: 'name', render: (c) => c.name },
    { head: 'Type', name: 'type', render: (c, cell) => { cell.className = 'wrap'; return h('code', {}, c.type); } },
    { head: 'Null', name: 'nullable', render: (c) => (c.nullable ? 'may be' : 'never') },
  ] });
  columns.update(found.columns);
  columnsBody.replaceChildren(scroll('Columns', null, columns.element));
  const keeps = found.cuts.map((cut) => {
    const of = cut.streams.join(', ');
    if (cut.keeps === 'events') return h('li', {}, `One row for each event of ${of}.`);
    return h('li', {}, cut.keys.length ? `One row of ${of} for each ` : `One row of ${of}`, cut.keys.flatMap((k, i) => [i ? ', ' : '', h('code', {}, k)]), cut.values.length ? ': ' : '.', cut.values.flatMap((v, i) => [i ? ', ' : '', h('code', {}, v)]));
  });
  definition.replaceChildren(sqlBlock(found.sql), ...(keeps.length ? [h('h3', { class: 'gap' }, 'What it keeps'), h('ul', { class: 'keeps' }, keeps)] : []), ...found.notes.map((note) => h('p', { class: 'muted small gap' }, note)));
}
