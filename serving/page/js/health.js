// What is wrong, from what the platform says of itself: each with a reason and what to do.

import { ago, compact, count, counted, instant, percent, timeOfDay } from './format.js';
import { declared } from './status.js';

const MINUTE = 60e3;
/** So many offsets behind are worth a word if they do not get fewer. */
const LAG = 10000;
const WAITING = 8;
/** A batch view older than a day and its slack was forgotten. */
const OLD_BATCH = 26 * 60 * MINUTE;

/** [{ level: 'bad' | 'warn', where, title, text, todo, href }], the worst first. */
export function problems(platform) {
  const { status, error, denied } = platform;
  const found = [];
  const add = (level, where, title, text, todo, href) => found.push({ level, where, title, text, todo, href });
  if (error) {
    add('bad', 'serving', 'The server does not answer', error.message, status ? 'What you see is what it said last. The page tries again each second.' : 'The page tries again each second.');
  }
  if (denied) {
    add('warn', 'serving', 'This token does not show the state of the platform', denied.message, 'Views and SQL answer what it may read.', '#/views');
  }
  if (!status) return found;
  ofSpeed(status, add);
  for (const view of status.views) ofView(view, status, platform.now, add);
  if (platform.samples.length) for (const stream of declared(status)) ofStream(stream, platform, add);
  return found.sort((a, b) => (a.level === b.level ? 0 : a.level === 'bad' ? -1 : 1));
}

function ofSpeed(status, add) {
  const { reachable, error } = status.speed;
  if (!reachable) {
    add('bad', 'speed', 'The speed layer cannot be reached', error, 'Until it answers, queries and events are refused: an answer without the newest events would have a hole.', '#/');
  } else if (error) {
    add('bad', 'speed', 'The speed layer folds nothing', error, 'Answers end where it was. It tries again by itself.', '#/');
  }
}

function ofView(view, status, now, add) {
  const href = `#/views/${encodeURIComponent(view.name)}`;
  if (view.state === 'failed') {
    add('bad', 'speed', `View ${view.name} stands still`, view.failed, 'Its query failed on an event: change it, for example to TRY_CAST, and restart.', href);
  }
  if (view.state === 'unknown') {
    add('bad', 'speed', `The speed layer does not know view ${view.name}`, 'It runs with another definition of it, or without it.', 'Restart whichever of `twofold speed` and `twofold serve` was started before the project changed.', href);
  }
  if (view.state === 'building') {
    const { done, total } = view.building;
    const answers = view.previous ? 'The project before answers until it is built.' : 'Queries to it are refused until it is built.';
    add('warn', 'speed', `View ${view.name} is being built: ${percent(done, total)}`, `${count(done)} of ${counted(total, 'event')} folded. ${answers}`, undefined, href);
  }
  if (view.audit?.unequal > 0) {
    const many = view.audit.unequal === 1 ? 'one state differs' : `${count(view.audit.unequal)} states differ`;
    add('bad', 'batch', `Batch and speed do not agree on ${view.name}`, `${many} between the layers. The batch view counts.`, '`twofold audit --explain` lists the keys that differ. It is a defect: report it.', '#/batch');
  }
  const age = now - instant(view.batch?.created);
  const behind = view.streams.some((name) => status.streams.find((s) => s.name === name)?.partitions.some((p) => (p.log_end ?? 0) > Number(view.batch?.horizon?.[name]?.[p.partition] ?? 0)));
  if (age > OLD_BATCH && behind) {
    add('warn', 'batch', `The batch view of ${view.name} is old`, `It was made ${ago(age)}, and there are newer events.`, 'Look whether the schedule in [batch] of twofold.toml runs, or run `twofold batch`.', '#/batch');
  }
}

function ofStream(stream, platform, add) {
  const href = `#/streams/${encodeURIComponent(stream.name)}`;
  const last = platform.samples.at(-1).streams[stream.name];
  const before = (ms) => platform.before(ms).streams[stream.name];
  const watched = (ms) => platform.samples.at(-1).at - platform.samples[0].at >= ms;
  if (last.lag > LAG && watched(10e3) && last.lag >= before(10e3)?.lag) {
    add('bad', 'speed', `The speed layer falls behind on ${stream.name}`, `${compact(last.lag)} events are durable and not folded, and it does not get fewer.`, 'More partitions, cheaper views, or a faster machine.', href);
  }
  const waiting = (name) => platform.samples.at(-1).streams[name]?.waiting ?? 0;
  if (waiting(stream.name) >= WAITING && watched(MINUTE) && waiting(stream.name) >= (before(MINUTE)?.waiting ?? 0)) {
    add('bad', 'archive', `Segments of ${stream.name} are not archived`, `${count(waiting(stream.name))} are sealed and wait.`, 'See the log of the speed layer; is the store reachable, and is there room?', href);
  }
  const rejected = last.rejected - (before(MINUTE)?.rejected ?? last.rejected);
  if (rejected > 0) {
    add('warn', 'log', `${counted(rejected, 'event')} of ${stream.name} rejected in the last minute`, 'They are kept as they came, each with the reason.', undefined, href);
  }
  const then = before(MINUTE);
  const still = stream.partitions.every((p) => !p.idle) && last.watermark.replaceAll(',', '') && then?.watermark === last.watermark;
  if (watched(MINUTE) && still && last.end > then.end) {
    const least = stream.partitions.map((p) => p.watermark).filter(Boolean).sort()[0];
    add('warn', 'speed', `The watermark of ${stream.name} stands still`, `Events arrive, but in no partition has event time come further than ${timeOfDay(least)} for a minute.`, 'Look at the times of the newest events.', href);
  }
}
