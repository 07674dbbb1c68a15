// The way the data goes, as a picture that lives: log to speed, log to archive to batch, and both to serving.

import { h, mark, say } from './dom.js';
import { ago, bytes, compact, count, counted, duration, instant, percent, rate, timeOfDay } from './format.js';
import { coverageOf, declared, platform, quantile } from './status.js';
import { bar, total } from './coverage.js';

/** So many streams have a line of their own. */
const STREAMS = 4;
const sum = (list, of) => list.reduce((all, item) => all + (of(item) ?? 0), 0);

/** One place of the picture: its name, the number that matters most, and some more. */
function place(area, title, hint, unit, facts) {
  const [hero, state, more] = [h('b', {}, '–'), h('p', { class: 'state' }), h('div', { class: 'more', hidden: true })];
  const values = facts.map(() => h('dd', {}, '–'));
  const id = `path-${area}`;
  const element = h('section', { class: `place ${area}`, 'aria-labelledby': id },
    h('h2', { id, title: hint }, title),
    h('p', { class: 'hero' }, hero, ' ', h('span', {}, unit)),
    h('dl', {}, facts.map((name, i) => h('div', {}, h('dt', {}, name), values[i]))),
    more, state);
  const set = (main, ...texts) => {
    say(hero, main);
    texts.forEach((text, i) => say(values[i], text));
  };
  return { element, state, more, set };
}

const edge = (name) => h('div', { class: `edge ${name}`, 'aria-hidden': 'true' });

export class DataPath {
  constructor() {
    this.log = place('log', 'Log', 'The durable tail of each stream', 'events/s', ['Events', 'Partitions', 'Rejected']);
    this.speed = place('speed', 'Speed', 'Folds each event as it comes', 'folded/s', ['Lag', 'Watermark', 'State rows', 'Memory', 'Epochs/s', 'Late events']);
    this.archive = place('archive', 'Archive', 'All events as Parquet files', 'segments', ['Waiting', 'Events', 'Size']);
    this.batch = place('batch', 'Batch', 'Folds the archive, and audits the speed layer', '', ['Covers', 'Last run', 'Audit']);
    this.serving = place('serving', 'Serving', 'Merges batch and speed views into one answer', 'views answer', ['Queries/s', '95 % within']);
    this.made = bar();
    this.shares = [h('span'), h('span')];
    this.serving.more.append(h('h3', {}, 'Answers are made of'), this.made.element, h('div', {}, h('span', { class: 'of-batch' }, 'batch views'), this.shares[0]), h('div', {}, h('span', { class: 'of-speed' }, 'speed views'), this.shares[1]));
    this.serving.more.hidden = false;
    this.streams = new Map();
    this.places = { log: this.log, speed: this.speed, archive: this.archive, batch: this.batch, serving: this.serving };
    this.edges = Object.fromEntries(['log-speed', 'speed-serving', 'log-archive', 'archive-batch', 'batch-serving'].map((name) => [name, edge(name)]));
    this.element = h('div', { class: 'path', role: 'group', 'aria-label': 'The data path' }, Object.values(this.places).map((p) => p.element), Object.values(this.edges));
  }

  update(problems) {
    const { status, now } = platform;
    if (!status) return;
    const streams = declared(status);
    const partitions = streams.flatMap((stream) => stream.partitions);
    const [incoming, folding] = [platform.rate((s) => s.end), platform.rate((s) => s.folded)];
    this.log.set(rate(incoming), compact(sum(streams, (s) => s.events)), count(partitions.length), count(sum(streams, (s) => s.rejected)));
    this.setStreams(streams);
    this.setSpeed(status, partitions, folding);
    const waiting = sum(partitions, (p) => p.segments_waiting);
    this.archive.set(count(sum(partitions, (p) => p.segments)), count(waiting), compact(sum(partitions, (p) => p.archived_events)), bytes(sum(partitions, (p) => p.archived_bytes)));
    this.setBatch(status, now);
    this.setServing(status);
    const archiving = platform.rate((s) => s.archived, 60e3) > 0;
    const recent = status.views.some((view) => view.batch && now - instant(view.batch.created) < 10e3);
    this.flow('log-speed', folding > 0);
    this.flow('speed-serving', folding > 0);
    this.flow('log-archive', archiving);
    this.flow('archive-batch', recent);
    this.flow('batch-serving', recent);
    for (const [name, { element, state }] of Object.entries(this.places)) {
      const worst = problems.find((p) => p.where === name);
      mark(element, worst ? `is-${worst.level}` : '', ['is-bad', 'is-warn']);
      say(state, worst?.level === 'bad' ? worst.title : '');
    }
  }

  setSpeed(status, partitions, folding) {
    const views = status.views.filter((view) => view.speed);
    const least = partitions.filter((p) => !p.idle).map((p) => p.watermark).filter(Boolean).sort()[0];
    const epochs = platform.rate((s) => s.epochs);
    this.speed.set(
      rate(folding), status.speed.reachable ? compact(sum(partitions, (p) => p.lag)) : '–', least ? timeOfDay(least).replace(/\.\d+$/, '') : '–',
      compact(sum(views, (v) => v.speed.rows)), bytes(sum(views, (v) => v.speed.bytes)), rate(epochs), compact(platform.metrics?.late));
  }

  setBatch(status, now) {
    const newest = status.views.filter((view) => view.batch).sort((a, b) => instant(b.batch.created) - instant(a.batch.created))[0];
    const audits = status.views.map((view) => view.audit).filter(Boolean);
    const [equal, unequal] = [sum(audits, (a) => a.equal), sum(audits, (a) => a.unequal)];
    const all = total(status.views.flatMap((view) => coverageOf(view, status)));
    const share = percent(all.batch, all.batch + all.speed + all.lag);
    this.made.set(all);
    say(this.shares[0], share);
    say(this.shares[1], percent(all.speed, all.batch + all.speed + all.lag));
    this.batch.set(newest ? ago(now - instant(newest.batch.created)) : 'never', share, newest ? newest.batch.mode : '–', unequal ? `${count(unequal)} differ` : audits.length ? `${compact(equal)} equal` : 'none yet');
  }

  setServing(status) {
    const live = status.views.filter((view) => view.state === 'live').length;
    const queries = platform.rate((s) => s.counters?.queries);
    const slow = platform.samples.length > 1 ? quantile(platform.before(30e3).counters, platform.samples.at(-1).counters, 0.95) : null;
    this.serving.set(live === status.views.length ? count(live) : `${live} of ${counted(status.views.length, '')}`.trim(), rate(queries), duration(slow));
  }

  /** The first streams by name, each with its rate. */
  setStreams(streams) {
    this.log.more.hidden = streams.length < 2;
    for (const { name } of streams.slice(0, STREAMS)) {
      if (!this.streams.has(name)) {
        const [label, value] = [h('span', { class: 'muted' }, name), h('span')];
        this.streams.set(name, value);
        this.log.more.append(h('div', {}, label, value));
      }
      say(this.streams.get(name), `${rate(platform.rate((s) => s.streams[name]?.end))}/s`);
    }
  }

  flow(name, flows) {
    this.edges[name].classList.toggle('flows', Boolean(flows));
  }
}
