// The grid: only rows near the screen exist, so that 10,000 photos cost no more than 200.

import { last } from "./page.js";

const GAP = 6;
const HEAD = 40; // pixels of a heading between two sections
const AHEAD = 4; // screens in the direction of travel whose pictures are fetched ahead of time
const BEHIND = 1.5;

export class Grid {
  // `paint(cell, photo)` shows the state of a photo on its cell; `moved()` is called when place or selection changed.
  // `loaded(cell)` when its picture is there.
  constructor(main, space, pictures, { paint, moved, loaded }) {
    Object.assign(this, { main, space, pictures, paint, moved, loaded });
    this.size = 132;
    this.sections = [];
    this.order = [];
    this.rows = [];
    this.live = new Map(); // row number -> element
    this.focus = 0;
    this.anchor = 0;
    this.selected = new Set(); // positions in `order`
    main.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.layout(true)).observe(main);
  }

  show(sections) {
    this.sections = sections;
    this.order = sections.flatMap((section) => section.photos);
    this.place = new Map(this.order.map((photo, at) => [photo, at]));
    this.focus = this.anchor = 0;
    this.selected.clear();
    this.main.scrollTop = 0;
    this.layout(false);
  }

  resize(size) {
    this.size = size;
    this.layout(true);
  }

  // Rows with their places; `stay` keeps the photo at the top of the screen there.
  layout(stay) {
    const top = stay && this.rows.length ? (this.rows[this.rowAt(this.main.scrollTop)].from ?? 0) : 0;
    const width = this.space.clientWidth;
    if (!width) return;
    this.columns = Math.max(2, Math.floor((width + GAP) / (this.size + GAP)));
    this.tile = (width - GAP * (this.columns - 1)) / this.columns;
    this.rows = [];
    let y = 0;
    let from = 0;
    this.sections.forEach((section, number) => {
      if (number) y = this.push({ y, height: HEAD, section, from, to: from });
      const end = from + section.photos.length;
      for (; from < end; from = this.rows.at(-1).to)
        y = this.push({ y, height: this.tile + GAP, section, from, to: Math.min(end, from + this.columns) });
    });
    this.space.style.height = `${y}px`;
    this.main.setAttribute("aria-rowcount", this.rows.length);
    this.main.setAttribute("aria-colcount", this.columns);
    const held = document.activeElement.closest(".cell");
    this.live.clear();
    this.space.replaceChildren();
    if (top) this.main.scrollTop = this.rows[this.rowOf(top)].y;
    this.draw();
    if (held && this.rows.length) this.take();
  }

  // Give the keyboard to the cell of its place, whether that is on the screen or not.
  take() {
    const { y } = this.rows[this.rowOf(this.focus)];
    this.need(y, y);
    this.element(this.focus)?.focus({ preventScroll: true });
  }

  push(row) {
    this.rows.push(row);
    return row.y + row.height;
  }

  // The row at a height, and the row of a position: the last that starts at or before it.
  rowAt(y) {
    return last(this.rows, (row) => row.y <= y);
  }

  rowOf(at) {
    return last(this.rows, (row) => row.from <= at);
  }

  // Rows on the screen at once, and those around it in the next frame.
  draw() {
    if (!this.rows.length) return this.live.clear(), this.space.replaceChildren();
    const { scrollTop, clientHeight } = this.main;
    this.need(scrollTop, scrollTop + clientHeight);
    this.pictures.want(this.near(scrollTop, clientHeight));
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      const reach = clientHeight / 2;
      const [first, end] = this.need(scrollTop - reach, scrollTop + clientHeight + reach);
      const kept = this.rowOf(this.focus); // the keyboard's place is never taken away
      for (const [number, row] of this.live)
        if ((number < first || number > end) && number !== kept) this.live.delete(number), row.remove();
    });
    this.moved();
  }

  // The photos on the screen, then those ahead of it, then those just passed.
  near(top, height) {
    const down = top >= (this.passed ?? 0);
    this.passed = top;
    const above = this.photos(top - height * (down ? BEHIND : AHEAD), top).reverse();
    const below = this.photos(top + height, top + height * (1 + (down ? AHEAD : BEHIND)));
    return [...this.photos(top, top + height), ...(down ? [below, above] : [above, below]).flat()];
  }

  photos(from, to) {
    const [first, last] = [this.rows[this.rowAt(Math.max(0, from))], this.rows[this.rowAt(Math.max(0, to))]];
    return this.order.slice(first.from, last.to);
  }

  need(from, to) {
    const [first, end] = [this.rowAt(Math.max(0, from)), this.rowAt(to)];
    for (let number = first; number <= end; number++)
      if (!this.live.has(number)) this.live.set(number, this.space.appendChild(this.build(number)));
    return [first, end];
  }

  build(number) {
    const { y, height, section, from, to } = this.rows[number];
    const row = document.createElement("div");
    row.className = from === to ? "row title" : "row";
    row.setAttribute("role", "row");
    row.setAttribute("aria-rowindex", number + 1);
    row.style.cssText = `transform:translateY(${y}px);height:${height}px`;
    if (from === to) {
      const cell = row.appendChild(document.createElement("div"));
      cell.setAttribute("role", "gridcell");
      cell.textContent = section.name;
    }
    for (let at = from; at < to; at++) row.append(this.cell(at));
    return row;
  }

  cell(at) {
    const cell = document.createElement("div");
    cell.className = "cell";
    cell.setAttribute("role", "gridcell");
    cell.dataset.at = at;
    cell.style.width = cell.style.height = `${this.tile}px`;
    const image = cell.appendChild(new Image());
    image.alt = "";
    image.draggable = false;
    image.onload = () => this.loaded(cell);
    cell.appendChild(document.createElement("span")).className = "mark";
    this.dress(cell, at);
    this.picture(cell, this.order[at]);
    return cell;
  }

  picture(cell, photo) {
    const url = this.pictures.of(photo);
    if (url) cell.firstElementChild.src = url;
    else if (url === null) cell.classList.add("gone");
  }

  // The picture of a photo is there.
  arrived(photo) {
    const cell = this.element(this.place.get(photo));
    if (cell) this.picture(cell, photo);
  }

  dress(cell, at) {
    cell.tabIndex = at === this.focus ? 0 : -1;
    cell.setAttribute("aria-selected", this.selected.has(at));
    this.paint(cell, this.order[at]);
  }

  // Show the state of these photos anew; without a list, of all that exist.
  refresh(photos) {
    for (const row of this.live.values())
      for (const cell of row.querySelectorAll(".cell")) {
        const at = Number(cell.dataset.at);
        if (!photos || photos.has(this.order[at])) this.dress(cell, at);
      }
  }

  element(at) {
    return at === undefined ? null : this.live.get(this.rowOf(at))?.querySelector(`[data-at="${at}"]`);
  }

  // Move the keyboard's place; with `extend`, select from the anchor to there.
  go(at, { extend = false, focus = true } = {}) {
    if (!this.order.length) return;
    this.focus = Math.min(Math.max(at, 0), this.order.length - 1);
    if (extend) this.range(this.focus);
    else this.anchor = this.focus;
    const row = this.rows[this.rowOf(this.focus)];
    const { scrollTop, clientHeight } = this.main;
    if (row.y < scrollTop) this.main.scrollTop = row.y;
    else if (row.y + row.height > scrollTop + clientHeight) this.main.scrollTop = row.y + row.height - clientHeight;
    this.draw();
    this.refresh();
    if (focus) this.element(this.focus)?.focus({ preventScroll: true });
    this.moved();
  }

  // One row up or down, in the same column, past headings.
  step(rows) {
    const now = this.rowOf(this.focus);
    const column = this.focus - this.rows[now].from;
    let next = now + rows;
    const way = Math.sign(rows);
    while (this.rows[next] && this.rows[next].from === this.rows[next].to) next += way;
    const row = this.rows[Math.min(Math.max(next, 0), this.rows.length - 1)];
    return Math.min(row.from + column, Math.max(row.to - 1, row.from));
  }

  page() {
    return Math.max(1, Math.floor(this.main.clientHeight / (this.tile + GAP)) - 1);
  }

  range(to) {
    this.selected.clear();
    for (let at = Math.min(this.anchor, to); at <= Math.max(this.anchor, to); at++) this.selected.add(at);
  }

  toggle(at) {
    if (!this.selected.delete(at)) this.selected.add(at);
    this.anchor = at;
  }

  drop() {
    this.selected.clear();
    this.anchor = this.focus;
    this.refresh();
    this.moved();
  }

  // The photos that are wholly on the screen, and the section at its top.
  visible() {
    const { scrollTop, clientHeight } = this.main;
    const shown = [];
    for (let number = this.rowAt(scrollTop); number < this.rows.length; number++) {
      const { y, height, from, to } = this.rows[number];
      if (y + height - GAP > scrollTop + clientHeight + 1) break;
      if (y >= scrollTop - 1) for (let at = from; at < to; at++) shown.push(at);
    }
    return shown;
  }

  section() {
    return this.rows.length ? this.rows[this.rowAt(this.main.scrollTop + 1)].section : null;
  }

  // How many photos fill a screen, headings set aside.
  screenful() {
    return this.columns * Math.max(1, Math.floor((this.main.clientHeight - HEAD) / (this.tile + GAP)) - 1);
  }
}
