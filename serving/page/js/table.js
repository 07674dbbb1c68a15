// A table of rows that change: cells are touched only where their text does, so that nothing jumps, and selections stay.

import { h, say } from './dom.js';
import { isNumber, isTime, isWindow, value } from './format.js';

const compareText = new Intl.Collator('en', { numeric: true }).compare;

/**
 * columns: [{ name, type }] or [{ name, head, num, render(row) -> text or node, order(row) -> number or text }].
 * Rows are objects. `key(row)` says which row is which; without it the place does.
 */
export class Table {
  constructor({ columns, caption, key, limit = 500, sort = null, flash = false, fixed = false, empty = 'Nothing yet.' }) {
    Object.assign(this, { columns: columns.map(column), key, limit, sort, flash, empty });
    this.rows = [];
    this.shown = new Map();
    this.body = h('tbody');
    this.nothing = h('p', { class: 'empty', hidden: true }, empty);
    this.heads = this.columns.map((c) => this.head(c));
    this.table = h('table', { class: fixed ? 'fixed' : undefined }, h('caption', { class: 'visually-hidden' }, caption), fixed && h('colgroup', {}, this.columns.map(widthOf)), h('thead', {}, h('tr', {}, this.heads)), this.body);
    this.element = h('div', {}, this.table, this.nothing);
    this.mark();
  }

  head(c) {
    const order = h('span', { class: 'order', 'aria-hidden': 'true' });
    const label = [c.head ?? c.name, c.type && h('small', {}, shortType(c.type))];
    if (!c.order) return h('th', { scope: 'col', class: c.num ? 'num' : undefined, title: c.title }, label);
    const button = h('button', { type: 'button', title: c.title ?? c.type ?? undefined, onclick: () => this.sortBy(c) }, label, order);
    return h('th', { scope: 'col', class: c.num ? 'num' : undefined }, button);
  }

  sortBy(c) {
    const same = this.sort?.name === c.name;
    this.sort = { name: c.name, down: same ? !this.sort.down : Boolean(c.num || c.time) };
    this.mark();
    this.update(this.rows);
  }

  mark() {
    this.columns.forEach((c, i) => {
      const mine = this.sort?.name === c.name;
      const order = this.heads[i].querySelector('.order');
      if (!order) return;
      say(order, mine ? (this.sort.down ? '↓' : '↑') : '');
      if (mine) this.heads[i].setAttribute('aria-sort', this.sort.down ? 'descending' : 'ascending');
      else this.heads[i].removeAttribute('aria-sort');
    });
  }

  update(rows) {
    this.rows = rows;
    const shown = this.sorted(rows).slice(0, this.limit);
    const next = new Map();
    let place = this.body.firstElementChild;
    shown.forEach((row, i) => {
      let key = this.key ? this.key(row) : i;
      while (next.has(key)) key = `${key}+`;
      const known = this.shown.get(key);
      const line = known ?? this.line(row);
      if (known) this.refresh(known, row);
      next.set(key, line);
      if (line.tr === place) place = place.nextElementSibling;
      else this.body.insertBefore(line.tr, place);
    });
    for (const [key, line] of this.shown) if (next.get(key) !== line) line.tr.remove();
    this.shown = next;
    this.nothing.hidden = shown.length > 0;
  }

  line(row) {
    const cells = this.columns.map((c, i) => h(i === 0 && c.head !== undefined ? 'th' : 'td', { scope: i === 0 && c.head !== undefined ? 'row' : undefined, class: c.num ? 'num' : c.type === 'TEXT' ? 'text-cell' : undefined }));
    const line = { tr: h('tr', {}, cells), cells, texts: [] };
    this.refresh(line, row, true);
    return line;
  }

  refresh(line, row, first = false) {
    this.columns.forEach((c, i) => {
      const cell = line.cells[i];
      const content = c.render(row, cell);
      if (content instanceof Node) {
        if (cell.firstChild !== content) cell.replaceChildren(content);
        return;
      }
      const text = String(content ?? '–');
      if (line.texts[i] === text) return;
      line.texts[i] = text;
      cell.textContent = text;
      if (c.plain) {
        const full = c.plain(row);
        cell.classList.toggle('null', full === null);
        if (full !== null && String(full) !== text) cell.title = String(full); else cell.removeAttribute('title');
      }
      if (this.flash && !first) flash(cell);
    });
  }

  sorted(rows) {
    const c = this.sort && this.columns.find((other) => other.name === this.sort.name);
    if (!c?.order) return rows;
    const sign = this.sort.down ? -1 : 1;
    return rows.map((row) => [c.order(row), row]).sort(([a], [b]) => sign * compare(a, b)).map(([, row]) => row);
  }
}

function flash(cell) {
  cell.classList.remove('changed');
  requestAnimationFrame(() => cell.classList.add('changed'));
}

const widthOf = (c) => h('col', { class: c.width });

/** A column of an answer becomes one of a table. */
function column(c) {
  if (c.render) return c;
  const [num, when] = [isNumber(c.type), isTime(c.type) || isWindow(c.type)];
  return {
    ...c,
    num,
    time: when,
    render: (row) => value(row[c.name], c.type),
    plain: (row) => plain(row[c.name]),
    order: (row) => orderOf(row[c.name], num, c.type),
  };
}

function plain(v) {
  return v === null || v === undefined ? null : typeof v === 'object' ? value(v) : v;
}

function orderOf(v, num, type) {
  if (v === null || v === undefined) return null;
  if (num) return typeof v === 'bigint' ? v : Number(v);
  if (isWindow(type)) return v.start;
  return typeof v === 'object' ? value(v) : v;
}

/** Nulls come last, whichever way. */
function compare(a, b) {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b);
  return a < b ? -1 : a > b ? 1 : 0;
}

const shortType = (type) => (isWindow(type) ? 'WINDOW' : type.length > 24 ? `${type.slice(0, 22)}…` : type);
