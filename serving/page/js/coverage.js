// Coverage as bars: of each partition what is answered from the batch view, what from the speed layer, and what waits.

import { h, say } from './dom.js';
import { count, percent, timeOfDay } from './format.js';

/** A bar; `set({ batch, speed, lag })` says how many offsets each part has. */
export function bar() {
  const [batch, speed, lag] = [h('i', { class: 'batch' }), h('i', { class: 'speed' }), h('i', { class: 'lag' })];
  const element = h('div', { class: 'bar', role: 'img' }, batch, speed, lag);
  const set = (parts) => {
    const all = parts.batch + parts.speed + parts.lag;
    const share = (n) => (all ? `${((100 * n) / all).toFixed(2)}%` : '0%');
    batch.style.setProperty('--part', share(parts.batch));
    speed.style.setProperty('--part', share(parts.speed));
    lag.style.setProperty('--part', share(parts.lag));
    const label = all ? `${percent(parts.batch, all)} from the batch view, ${percent(parts.speed, all)} from the speed layer${parts.lag ? `, ${count(parts.lag)} offsets not folded yet` : ''}` : 'no events yet';
    if (element.getAttribute('aria-label') !== label) element.setAttribute('aria-label', label);
  };
  return { element, set };
}

/** The parts of several partitions together. */
export function total(parts) {
  const sum = { batch: 0, speed: 0, lag: 0 };
  for (const part of parts) {
    sum.batch += part.batch;
    sum.speed += part.folded - part.batch;
    sum.lag += part.end - part.folded;
  }
  return sum;
}

export const legend = () => h('div', { class: 'key' }, h('span', { class: 'batch' }, 'batch view'), h('span', { class: 'speed' }, 'speed layer'), h('span', { class: 'lag' }, 'not folded yet'));

/** A bar for each partition, with its offsets in numbers. */
export class Coverage {
  constructor() {
    this.lines = new Map();
    this.list = h('ul', { class: 'coverage' });
    this.element = h('div', {}, legend(), this.list);
  }

  update(parts) {
    const several = new Set(parts.map((part) => part.stream)).size > 1;
    for (const part of parts) {
      const id = `${part.stream}/${part.partition}`;
      if (!this.lines.has(id)) this.add(id);
      const line = this.lines.get(id);
      line.bar.set({ batch: part.batch, speed: part.folded - part.batch, lag: part.end - part.folded });
      say(line.name, `${several ? `${part.stream} ` : ''}partition ${part.partition}${part.idle ? ' (idle)' : ''}`);
      say(line.batch, `[0, ${count(part.batch)})`);
      say(line.speed, `[${count(part.batch)}, ${count(part.folded)})`);
      say(line.watermark, part.watermark ? timeOfDay(part.watermark) : '');
    }
  }

  add(id) {
    const line = { bar: bar(), name: h('span'), batch: h('span', { class: 'of-batch', title: 'offsets answered from the batch view' }), speed: h('span', { class: 'of-speed', title: 'offsets answered from the speed layer' }), watermark: h('span', { class: 'muted', title: 'watermark: how far event time has come' }) };
    this.lines.set(id, line);
    const row = (...parts) => h('div', { class: 'offsets' }, parts);
    this.list.append(h('li', {}, row(line.name, line.watermark), line.bar.element, row(line.batch, line.speed)));
  }
}
