// Lines over time, drawn by uPlot in the colours of the page.

import { h } from './dom.js';
import { compact } from './format.js';

/** Colours of series that are no layer: told apart also by those who do not see all colours. */
const SERIES = ['--accent', '--series-2', '--series-3', '--series-4', '--series-5', '--series-6'];

/** What a custom property comes to now. */
function colour(name) {
  const probe = h('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

/** A chart in a box that keeps its height. `series` are [{ label, colour?: '--name', fill?: bool }]. */
export class TimeChart {
  constructor({ label, height = 200, points = false, format = compact, span = null }) {
    Object.assign(this, { label, height, points, format, span, names: '', data: null });
    this.legend = h('ul', { class: 'legend' });
    this.none = h('p', { class: 'none' }, 'Nothing to draw yet.');
    this.box = h('div', { class: 'chart', role: 'img', 'aria-label': label, '--height': `${height}px` }, this.none);
    this.element = h('div', { class: 'stack tight' }, this.legend, this.box);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.box);
    this.redraw = () => { this.names = ''; if (this.data) this.update(this.series, this.data); };
    document.addEventListener('themechange', this.redraw);
  }

  /** data: [seconds since 1970 ascending, values of the first series, …] */
  update(series, data) {
    Object.assign(this, { series, data });
    const width = this.box.clientWidth;
    const empty = data[0].length < 2;
    this.none.hidden = !empty;
    if (empty || !width) return;
    const names = JSON.stringify(series);
    if (names !== this.names) this.build(series, width, names);
    this.plot.setData(data);
    this.tell(series, data);
  }

  build(series, width, names) {
    this.names = names;
    this.plot?.destroy();
    const [grid, text] = [colour('--line'), colour('--muted')];
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: text, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    this.colours = series.map((s, i) => s.colour ?? SERIES[i % SERIES.length]);
    const lines = series.map((s, i) => {
      const stroke = colour(this.colours[i]);
      return { label: s.label, stroke, width: 1.75, fill: s.fill ? translucent(stroke) : undefined, points: { show: this.points && this.data[0].length < 60, size: 4, fill: stroke }, spanGaps: true };
    });
    this.plot = new window.uPlot({
      width,
      height: this.height,
      legend: { show: false },
      cursor: { y: false, points: { size: 7 } },
      padding: [8, 22, 0, 0],
      scales: { x: this.span ? { range: (_, min, max) => [max - Math.min(this.span, Math.max(60, max - min)), max] } : {}, y: { range: (_, min, max) => [Math.min(0, min), max > 0 ? max * 1.08 : 1] } },
      axes: [{ ...axis, space: 70, size: 28, values: times, incrs: STEPS }, { ...axis, size: 52, space: 34, values: (_, ticks) => ticks.map((tick) => this.format(tick)) }],
      series: [{}, ...lines],
      hooks: { setCursor: [() => this.tell(this.series, this.data)] },
    }, this.data, this.box);
    this.legend.replaceChildren(...series.map((s, i) => h('li', {}, h('i', { '--of': `var(${this.colours[i]})` }), h('span', { title: s.label }, s.label), h('b'))));
  }

  /** The values under the pointer, or else the last ones. */
  tell(series, data) {
    const at = this.plot?.cursor.idx ?? data[0].length - 1;
    this.legend.querySelectorAll('b').forEach((place, i) => {
      const found = data[i + 1]?.[at];
      place.textContent = found === null || found === undefined ? '' : this.format(found);
    });
    const last = series.slice(0, 3).map((s, i) => `${s.label} ${this.format(data[i + 1].findLast((v) => v !== null && v !== undefined) ?? 0)}`);
    this.box.setAttribute('aria-label', `${this.label}: ${last.join(', ')}`);
  }

  resize() {
    const width = this.box.clientWidth;
    if (!width) return;
    if (!this.plot) { if (this.data) this.update(this.series, this.data); return; }
    if (width !== this.plot.width) this.plot.setSize({ width, height: this.height });
  }

  clear() {
    this.plot?.destroy();
    Object.assign(this, { plot: null, names: '', data: null });
    this.legend.replaceChildren();
    this.none.hidden = false;
  }

  stop() {
    this.observer.disconnect();
    document.removeEventListener('themechange', this.redraw);
    this.plot?.destroy();
  }
}

const translucent = (rgb) => rgb.replace(/^rgb\((.*)\)$/, 'rgba($1, 0.10)').replace(/^color\((.*)\)$/, 'color($1 / 0.10)');

/** Steps of the time axis in seconds: none is less than one. */
const STEPS = [1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 1209600, 2419200, 7776000, 15552000, 31536000];

const two = (n) => String(n).padStart(2, '0');

/** Times of an axis in UTC, as all times of the page are; the day where it begins. */
function times(_, ticks, __, ___, step) {
  let day = '';
  return ticks.map((tick) => {
    const at = new Date(tick * 1000);
    const date = at.toISOString().slice(0, 10);
    if (step >= 86400) return date.endsWith('-01-01') || step < 28 * 86400 ? date : date.slice(0, 7);
    const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${step < 60 ? `:${two(at.getUTCSeconds())}` : ''}`;
    const label = day && day !== date ? `${clock}\n${date.slice(5)}` : clock;
    day = date;
    return label;
  });
}
