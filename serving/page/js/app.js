// The frame: which page is shown, how the platform is, and the theme.

import { signIn } from './api.js';
import { batch } from './batch.js';
import { announce, mark, say } from './dom.js';
import { counted } from './format.js';
import { problems } from './health.js';
import { overview } from './overview.js';
import { queries } from './queries.js';
import { platform } from './status.js';
import { streams } from './streams.js';
import { views } from './views.js';

const PAGES = { overview, views, sql: queries, streams, batch };
const TITLES = { overview: 'Overview', views: 'Views', sql: 'SQL', streams: 'Streams', batch: 'Batch and audit' };
const main = document.getElementById('main');
let shown = null;

/** #/views/clicks?x=y as { page: 'views', name: 'clicks', parameters }. */
function place() {
  const [path, parameters = ''] = location.hash.replace(/^#\/?/, '').split('?', 2);
  const [page, ...rest] = path.split('/');
  return { page: PAGES[page] ? page : 'overview', name: rest.length ? decode(rest.join('/')) : null, parameters: new URLSearchParams(parameters) };
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function show() {
  const { page, name, parameters } = place();
  const moved = shown !== null;
  shown?.stop?.();
  main.replaceChildren();
  shown = PAGES[page](main, { name, parameters });
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.page === page) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${name ?? TITLES[page]} · Twofold`;
  if (moved) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
    announce(name ?? TITLES[page]);
  }
  refresh();
}

let told = '';
function refresh() {
  const found = problems(platform);
  const level = found[0]?.level ?? 'good';
  const text = !platform.isSettled && !platform.error ? 'Connecting' : found.length === 0 ? 'All well' : level === 'bad' ? counted(found.filter((p) => p.level === 'bad').length, 'problem') : counted(found.length, 'notice');
  mark(document.getElementById('health'), `is-${platform.isSettled || platform.error ? level : 'idle'}`, ['is-good', 'is-warn', 'is-bad', 'is-idle']);
  say(document.getElementById('health-text'), text);
  const worst = found.filter((p) => p.level === 'bad').map((p) => p.title).join('. ');
  if (worst !== told) announce(worst || 'All well again');
  told = worst;
  shown?.update?.(found);
}

function themes() {
  const button = document.getElementById('theme');
  const names = { '': 'as the system has it', light: 'light', dark: 'dark' };
  const set = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.setAttribute('aria-label', `Theme: ${names[theme]}`);
    button.title = `Theme: ${names[theme]}`;
    document.dispatchEvent(new Event('themechange'));
  };
  let theme = localStorage.getItem('twofold-theme') ?? '';
  if (!(theme in names)) theme = '';
  set(theme);
  button.addEventListener('click', () => {
    theme = { '': 'light', light: 'dark', dark: '' }[theme];
    localStorage.setItem('twofold-theme', theme);
    set(theme);
    announce(`Theme: ${names[theme]}`);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => document.dispatchEvent(new Event('themechange')));
}

signIn.ask = (why) => new Promise((resolve) => {
  const dialog = document.getElementById('sign-in');
  const token = document.getElementById('token');
  token.value = '';
  say(document.getElementById('sign-in-why'), why);
  dialog.addEventListener('close', () => resolve(dialog.returnValue === 'ok' ? token.value.trim() : null), { once: true });
  dialog.returnValue = '';
  dialog.showModal();
});

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
themes();
addEventListener('hashchange', show);
platform.addEventListener('change', refresh);
show();
platform.start();
