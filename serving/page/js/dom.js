// Elements from data. Text is always text: nothing here, or anywhere in the page, reads markup from a string.

const SVG = 'http://www.w3.org/2000/svg';

/** An element: h('a', { href: '#/' , class: 'x', onclick: f }, 'text', child, …). Absent children and attributes are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same in the namespace of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name.startsWith('--')) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** Gives an element a text, and touches nothing if it has it. */
export function say(element, text) {
  const next = String(text);
  if (element.textContent !== next) element.textContent = next;
  return element;
}

/** Gives an element one of several classes that exclude one another. */
export function mark(element, name, of) {
  for (const other of of) element.classList.toggle(other, other === name);
  return element;
}

/** A card with a heading, what stands beside it, and a body. */
export function card(title, beside, ...body) {
  const id = `card-${++cards}`;
  return h('section', { class: 'card', 'aria-labelledby': id }, h('header', {}, h('h2', { id }, title), beside), ...body);
}
let cards = 0;

/** A table, or what is as wide as one: it scrolls for itself, also with the keyboard. */
export function scroll(label, height, ...children) {
  const region = h('div', { class: 'scroll', role: 'region', 'aria-label': `Table: ${label}`, tabindex: '0' }, ...children);
  if (height) region.style.height = height;
  return region;
}

/** What is wrong, and what to do about it. */
export function problem({ level = 'bad', title, text, todo }, role) {
  return h('div', { class: `problem is-${level}`, role }, h('strong', {}, title), text && h('p', {}, text), todo && h('p', { class: 'muted' }, todo));
}

/** Tells people who listen to the page, politely. */
export function announce(text) {
  const said = document.getElementById('said');
  if (said) say(said, text);
}
