// SQL: an editor, the answer as a table or a chart, the plan, and what was asked before.

import { download, sql } from './api.js';
import { catalog, OWN, relations } from './catalog.js';
import { announce, card, h, problem, say, scroll } from './dom.js';
import { Editor } from './editor.js';
import { Figure } from './figure.js';
import { ago, count, counted, duration, time } from './format.js';
import { forget, history, remember } from './history.js';
import { platform } from './status.js';
import { Table } from './table.js';
import { quoted } from './words.js';

const SHOWN = 1000;
let draft = null;

export function queries(root, { parameters }) {
  let words = { relations: OWN, functions: [] };
  let [answer, figure, running] = [null, null, null];
  const editor = new Editor({ label: 'SQL query. Control and Enter runs it, Control and Space completes.', text: parameters.get('q') ?? draft ?? '', words: () => words, run: () => run() });
  const button = h('button', { class: 'button primary', type: 'button', onclick: () => (running ? running.abort() : run()) }, h('span', {}, 'Run'), h('kbd', { 'aria-hidden': 'true' }, 'Ctrl ⏎'));
  const took = h('span', { class: 'muted small' });
  const save = h('button', { class: 'button quiet', type: 'button', hidden: true, onclick: () => saveCsv() }, 'Save as CSV');
  const body = h('div', { class: 'result-body' }, h('p', { class: 'empty' }, 'Ask something: every answer is exact, and says what it is made of.'));
  const tabs = tabList(['Table', 'Chart', 'Plan'], (tab) => render(tab));
  const made = h('p', { class: 'made muted small' });
  const past = h('ul', { class: 'past' });
  const names = h('div', { class: 'names' });

  async function run() {
    const statement = editor.text.trim().replace(/;\s*$/, '');
    if (!statement) { editor.area.focus(); return; }
    running?.abort();
    running = new AbortController();
    const mine = running;
    say(button.firstChild, 'Stop');
    const started = performance.now();
    try {
      const found = await sql(statement, mine.signal);
      const elapsed = performance.now() - started;
      answer = { ...found, statement, plan: null };
      say(took, `${counted(found.rows.length, 'row')} in ${duration(elapsed)}`);
      announce(`${counted(found.rows.length, 'row')} in ${duration(elapsed)}`);
      say(made, madeOf(found));
      save.hidden = found.rows.length === 0;
      remember(statement, counted(found.rows.length, 'row'));
      tabs.enable(true);
      render(tabs.current === 'Plan' ? 'Table' : tabs.current);
    } catch (error) {
      if (error.name === 'AbortError') { say(took, 'Stopped.'); } else fail(error, statement);
    }
    if (running === mine) { running = null; say(button.firstChild, 'Run'); }
    showPast();
  }

  function fail(error, statement) {
    answer = null;
    tabs.enable(false);
    save.hidden = true;
    say(took, '');
    say(made, '');
    remember(statement, 'failed');
    body.replaceChildren(h('div', { class: 'body' }, problem({ title: titleOf(error), text: error.message, todo: adviceOf(error) }, 'alert'), excerpt(statement, error.message)));
  }

  function render(tab) {
    if (!answer) return;
    figure?.stop();
    figure = null;
    tabs.select(tab);
    if (tab === 'Table') body.replaceChildren(tableOf(answer));
    if (tab === 'Chart') {
      figure = new Figure(answer.columns, { label: 'Chart of the answer', height: 300 });
      body.replaceChildren(h('div', { class: 'body padded' }, figure.element));
      figure.update(answer.rows);
    }
    if (tab === 'Plan') plan(answer);
  }

  async function plan(of) {
    body.replaceChildren(h('p', { class: 'empty' }, 'Planning…'));
    try {
      of.plan ??= /^\s*(EXPLAIN|SHOW)\b/i.test(of.statement) ? [] : (await sql(`EXPLAIN ${of.statement}`)).rows;
    } catch (error) {
      body.replaceChildren(h('div', { class: 'body' }, problem({ title: 'There is no plan', text: error.message }, 'alert')));
      return;
    }
    if (answer !== of || tabs.current !== 'Plan') return;
    const parts = of.plan.map((row) => [h('h3', {}, String(row.plan_type).replace('_', ' ')), h('pre', { class: 'plan' }, String(row.plan).trimEnd())]);
    body.replaceChildren(parts.length ? scroll('The plan', 'var(--result-height)', h('div', { class: 'body padded' }, parts)) : h('p', { class: 'empty' }, 'This statement has no plan of its own.'));
  }

  async function saveCsv() {
    try {
      const url = URL.createObjectURL(await download(answer.statement, 'csv'));
      h('a', { href: url, download: 'answer.csv' }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10e3);
    } catch (error) {
      say(took, error.message);
    }
  }

  function showPast() {
    const now = Date.now();
    past.replaceChildren(...history().map((query) => h('li', {}, h('button', { type: 'button', onclick: () => { editor.text = query.sql; editor.area.focus(); } }, h('code', {}, query.sql.replace(/\s+/g, ' ')), h('small', {}, `${query.outcome}, ${ago(now - Date.parse(query.at))}`)))));
    if (!past.firstChild) past.append(h('li', { class: 'muted small' }, 'Nothing yet.'));
  }

  function showNames(all) {
    names.replaceChildren(...all.map((relation) => h('details', {}, h('summary', {}, h('span', {}, relation.name), h('small', {}, relation.kind)), h('ul', {}, relation.columns.map((name) => h('li', {}, h('button', { type: 'button', title: 'Put it where the caret is', onclick: () => insert(quoted(name)) }, name)))))));
  }

  function insert(text) {
    editor.area.setRangeText(text, editor.area.selectionStart, editor.area.selectionEnd, 'end');
    editor.paint();
    editor.area.focus();
  }

  const clear = h('button', { class: 'button quiet', type: 'button', onclick: () => { forget(); showPast(); announce('The history is empty'); } }, 'Clear');
  root.append(
    h('h1', { class: 'visually-hidden' }, 'SQL'),
    h('div', { class: 'columns wide-left' },
      h('div', { class: 'stack' },
        h('section', { class: 'card', 'aria-label': 'Query' }, editor.element, h('div', { class: 'row spread bar-below' }, h('span', { class: 'muted small hint' }, 'Ctrl Space completes. Queries only read.'), button)),
        h('section', { class: 'card results', 'aria-label': 'Answer' }, h('header', {}, tabs.element, took, save), body, made)),
      h('div', { class: 'stack' }, card('Relations', null, names), card('History', clear, past))));
  tabs.enable(false);
  showPast();
  showNames(OWN);
  catalog().then((found) => { words = { relations: relations(found), functions: found.functions }; showNames(words.relations); if (!editor.text) { const first = found.views[0] ?? found.streams[0]; editor.text = first ? `SELECT *\nFROM ${quoted(first.name)}\nLIMIT 100` : 'SELECT 1'; } }, () => {});
  if (parameters.get('q')) run();
  return { update() {}, stop() { draft = editor.text; running?.abort(); figure?.stop(); } };
}

function tableOf(answer) {
  const table = new Table({ columns: answer.columns, caption: 'The answer', limit: SHOWN, empty: 'No rows.' });
  table.update(answer.rows);
  const more = answer.rows.length - SHOWN;
  return h('div', {}, scroll('The answer', 'var(--result-height)', table.element), more > 0 && h('p', { class: 'muted small made' }, `${count(more)} more rows are not shown: Save as CSV has all.`));
}

/** What an answer is made of, in a line. */
function madeOf({ coverage, watermark, version }) {
  const previous = version === 'previous' ? ' Answered by the project before, while the changed one is being built.' : '';
  if (!coverage?.length) return `Of tables and stored findings only.${previous}`;
  const [batch, speed] = ['batch', 'speed'].map((part) => coverage.reduce((sum, c) => sum + c[part][1] - c[part][0], 0));
  const names = [...new Set(coverage.map((c) => c.relation))].join(', ');
  return `Made of ${names}: ${count(batch)} offsets from the batch view or archive, ${count(speed)} from the speed layer${watermark ? `; watermark ${time(watermark)}` : ''}.${previous}`;
}

const titleOf = ({ kind }) => ({ invalid: 'This query cannot be answered', unavailable: 'Not now', busy: 'Too much at once', unreachable: 'No answer', corrupt: 'What is stored is damaged' }[kind] ?? 'The query failed');
const adviceOf = ({ kind }) => ({ unavailable: 'Try again in a moment.', busy: 'Try again in a moment.', unreachable: platform.error ? undefined : 'Try again.' }[kind]);

/** The line that an error points at, with a mark below the place. */
function excerpt(statement, message) {
  const found = /Line: (\d+), Column: (\d+)/i.exec(message);
  const line = found && statement.split('\n')[Number(found[1]) - 1];
  if (line === undefined || line === null) return null;
  return h('pre', { class: 'excerpt' }, `${line}\n${' '.repeat(Math.max(0, Number(found[2]) - 1))}^`);
}

/** Tabs as the keyboard expects them: arrows move, only the chosen one is in the order of Tab. */
function tabList(names, chosen) {
  const buttons = names.map((name) => h('button', { type: 'button', role: 'tab', onclick: () => chosen(name) }, name));
  const element = h('div', { class: 'tabs', role: 'tablist', 'aria-label': 'How to show the answer' }, buttons);
  const tabs = {
    element,
    current: names[0],
    select(name) {
      tabs.current = name;
      buttons.forEach((button, i) => { button.setAttribute('aria-selected', String(names[i] === name)); button.tabIndex = names[i] === name ? 0 : -1; });
    },
    enable(enabled) { buttons.forEach((button) => { button.disabled = !enabled; }); },
  };
  element.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (names.indexOf(tabs.current) + step + names.length) % names.length;
    chosen(names[next]);
    buttons[next].focus();
  });
  tabs.select(names[0]);
  return tabs;
}
