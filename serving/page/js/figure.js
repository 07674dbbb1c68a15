// A chart of an answer's rows, with the choice of what to draw: lines over time, or bars.

import { TimeChart } from './chart.js';
import { h, say } from './dom.js';
import { compact, counted } from './format.js';
import { bars, choices, lines, usual } from './pick.js';

export class Figure {
  constructor(columns, { label, height = 220 }) {
    this.can = choices(columns);
    this.rows = [];
    this.possible = this.can.over.length > 0 && this.can.values.length > 0;
    if (!this.possible) {
      this.element = h('p', { class: 'empty' }, 'There is nothing to draw: a chart needs a column of numbers, and one of times, windows or names.');
      return;
    }
    this.over = select('Over', this.can.over);
    this.value = select('Value', this.can.values);
    this.by = select('Line for each', ['–', ...this.can.names], this.can.names[0]);
    this.note = h('span', { class: 'muted small' });
    this.over.input.addEventListener('change', () => { this.chosen = true; });
    const fields = [this.over, this.value, this.by];
    for (const field of fields) field.input.addEventListener('change', () => this.update(this.rows));
    this.chart = new TimeChart({ label, height, points: true });
    this.bars = h('div', { class: 'bars', role: 'img', 'aria-label': label, '--height': `${height + 27}px` });
    this.element = h('div', { class: 'figure' }, h('div', { class: 'row' }, fields.map((field) => field.element), this.note), this.chart.element, this.bars);
  }

  update(rows) {
    this.rows = rows;
    if (!this.possible) return;
    if (!this.chosen) this.over.input.value = usual(this.can, rows);
    const [over, value, by] = [this.over, this.value, this.by].map((field) => field.input.value);
    const time = this.can.times.includes(over);
    this.by.element.hidden = !time || !this.can.names.length;
    this.chart.element.hidden = !time;
    this.bars.hidden = time;
    if (time) this.draw(rows, { over, value, by: by === '–' ? null : by });
    else this.list(rows, { over, value });
  }

  draw(rows, chosen) {
    const [series, data, more] = lines(rows, chosen);
    say(this.note, more > 0 ? `the ${series.length} greatest of ${counted(series.length + more, 'line')}` : '');
    if (data[0].length > 1) this.chart.update(series, data);
    else this.chart.clear();
  }

  list(rows, chosen) {
    const found = bars(rows, chosen);
    const greatest = Math.max(...found.map(([, n]) => n), 0) || 1;
    say(this.note, rows.length > found.length ? `the ${found.length} greatest of ${counted(rows.length, 'row')}` : '');
    this.bars.replaceChildren(...found.flatMap(([name, n]) => [h('span', { title: name }, name), h('i', { '--part': `${Math.max(0, (100 * n) / greatest)}%` }), h('span', { class: 'num' }, compact(n))]));
  }

  stop() {
    this.chart?.stop();
  }
}

function select(label, names, chosen = names[0]) {
  const input = h('select', {}, names.map((name) => h('option', { value: name, selected: name === chosen }, name)));
  return { input, element: h('label', { class: 'field' }, label, input) };
}
