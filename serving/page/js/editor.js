// An editor of SQL: a text area over its own coloured copy, with completion of names.

import { announce, h } from './dom.js';
import { counted } from './format.js';
import { coloured, KEYWORDS, quoted } from './words.js';

const OFFERED = 9;
let editors = 0;

export class Editor {
  /** words(): { relations: [{ name, kind, columns }], functions: [names] } */
  constructor({ label, text, words, run }) {
    Object.assign(this, { words, run, offers: [], chosen: -1 });
    const id = `offers-${++editors}`;
    this.code = h('code');
    this.area = h('textarea', { 'aria-label': label, spellcheck: 'false', autocapitalize: 'off', autocomplete: 'off', rows: '5', 'aria-autocomplete': 'list', 'aria-controls': id, 'aria-haspopup': 'listbox' });
    this.list = h('ul', { id, class: 'offers', role: 'listbox', 'aria-label': 'Completions', hidden: true });
    this.element = h('div', { class: 'editor' }, h('div', { class: 'editor-inner' }, h('pre', { class: 'sql', 'aria-hidden': 'true' }, this.code), this.area), this.list);
    this.area.addEventListener('input', () => { this.paint(); this.offer(); });
    this.area.addEventListener('keydown', (event) => this.keydown(event));
    this.area.addEventListener('blur', () => this.close());
    this.area.addEventListener('click', () => this.close());
    this.text = text;
  }

  get text() {
    return this.area.value;
  }

  set text(text) {
    this.area.value = text;
    this.paint();
    this.close();
  }

  paint() {
    this.code.replaceChildren(...coloured(this.area.value), '\n');
  }

  keydown(event) {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.close();
      this.run();
    } else if (event.key === ' ' && event.ctrlKey) {
      event.preventDefault();
      this.offer(true);
    } else if (!this.list.hidden) {
      this.choose(event);
    }
  }

  /** Keys while something is offered. Enter takes only what was pointed at, so that it stays a new line otherwise. */
  choose(event) {
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (moves[event.key]) this.point((this.chosen + moves[event.key] + this.offers.length) % this.offers.length);
    else if (event.key === 'Escape') this.close();
    else if (event.key === 'Tab' && !event.shiftKey) this.take(this.offers[Math.max(0, this.chosen)]);
    else if (event.key === 'Enter' && this.chosen >= 0) this.take(this.offers[this.chosen]);
    else return;
    event.preventDefault();
  }

  /** Offers what may stand at the caret. */
  offer(asked = false) {
    const before = this.area.value.slice(0, this.area.selectionStart);
    const [, relation, word] = /(?:([A-Za-z_]\w*)\.)?([A-Za-z_]\w*)?$/.exec(before) ?? [];
    const inText = (before.replace(/''/g, '').match(/'/g)?.length ?? 0) % 2 === 1 || /--[^\n]*$/.test(before);
    if (inText || (!word && !relation && !asked)) return this.close();
    this.from = before.length - (word?.length ?? 0);
    this.offers = matches(this.candidates(relation), word ?? '');
    if (!this.offers.length || (this.offers.length === 1 && this.offers[0].text === word)) return this.close();
    this.list.replaceChildren(...this.offers.map((offer, i) => h('li', { id: `${this.list.id}-${i}`, role: 'option', 'aria-selected': 'false', onpointerdown: (event) => { event.preventDefault(); this.take(offer); } }, h('span', {}, offer.text), h('small', {}, offer.kind))));
    this.list.hidden = false;
    announce(`${counted(this.offers.length, 'completion')}: ${this.offers.map((offer) => offer.text).slice(0, 3).join(', ')}`);
    this.point(-1);
    this.stand();
    return undefined;
  }

  candidates(relation) {
    const { relations, functions } = this.words();
    const text = this.area.value;
    const columns = (of) => of.columns.map((name) => ({ text: quoted(name), kind: of.name }));
    if (relation) {
      const aliased = new RegExp(`\\b([A-Za-z_]\\w*)\\s+(?:AS\\s+)?${relation}\\b`, 'i').exec(text)?.[1];
      return relations.filter((r) => r.name === relation || r.name === aliased).flatMap(columns);
    }
    const used = relations.filter((r) => new RegExp(`\\b${r.name.replace(/\W/g, '\\$&')}\\b`).test(text));
    return [
      ...used.flatMap(columns),
      ...relations.map((r) => ({ text: quoted(r.name), kind: r.kind })),
      ...KEYWORDS.map((word) => ({ text: word, kind: 'keyword' })),
      ...functions.map((name) => ({ text: name, kind: 'function' })),
      ...relations.filter((r) => !used.includes(r)).flatMap(columns),
    ];
  }

  point(chosen) {
    this.chosen = chosen;
    [...this.list.children].forEach((option, i) => option.setAttribute('aria-selected', String(i === chosen)));
    if (chosen >= 0) this.area.setAttribute('aria-activedescendant', `${this.list.id}-${chosen}`);
    else this.area.removeAttribute('aria-activedescendant');
    this.list.children[chosen]?.scrollIntoView({ block: 'nearest' });
  }

  take(offer) {
    const end = this.area.selectionStart;
    this.area.setRangeText(offer.text, this.from, end, 'end');
    this.paint();
    this.close();
    this.area.focus();
  }

  /** Puts the list below the caret, whose place the coloured copy tells. */
  stand() {
    let [left, node] = [this.from, null];
    const walker = document.createTreeWalker(this.code, NodeFilter.SHOW_TEXT);
    while ((node = walker.nextNode()) && left > node.length) left -= node.length;
    if (!node) return;
    const range = document.createRange();
    range.setStart(node, Math.min(left, node.length));
    const [caret, box] = [range.getBoundingClientRect(), this.element.getBoundingClientRect()];
    const room = box.width - this.list.offsetWidth - 8;
    this.list.style.left = `${Math.max(8, Math.min(caret.left - box.left, room))}px`;
    this.list.style.top = `${caret.bottom - box.top + 4}px`;
  }

  close() {
    this.list.hidden = true;
    this.area.removeAttribute('aria-activedescendant');
  }
}

/** Those that begin with the word, then those that have it inside; each text once, in their order. */
function matches(candidates, word) {
  const lower = word.toLowerCase();
  const fits = (test) => candidates.filter((c) => test(c.text.toLowerCase().replace(/^"/, '')));
  const found = [...fits((text) => text.startsWith(lower)), ...(lower.length > 1 ? fits((text) => text.indexOf(lower) > 0) : [])];
  const seen = new Set();
  return found.filter(({ text }) => !seen.has(text) && seen.add(text)).slice(0, OFFERED);
}
