// The state of a view in a word.

import { percent } from './format.js';

/** { level, text } */
export function stateOf(view) {
  if (view.materialized === false) return { level: 'good', text: 'on demand' };
  switch (view.state) {
    case 'live': return { level: 'good', text: 'live' };
    case 'building': return { level: 'warn', text: `building ${percent(view.building.done, view.building.total)}` };
    case 'failed': return { level: 'bad', text: 'failed' };
    case 'unknown': return { level: 'bad', text: 'unknown' };
    default: return { level: 'bad', text: 'offline' };
  }
}
