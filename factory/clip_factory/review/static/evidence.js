// What the label source shows for its answers: boxes and masks, laid over the photos as lines that show on light and dark.

import { $, page } from "./page.js";

const WAIT = 40; // milliseconds in which photos gather for one request
const MOST = 500; // photos in one request
const NAMED = 2; // boxes on a tile whose phrase and score are written; alone, all are
const ROOMY = 100; // pixels of a tile from which anything is written on it
const LINE = 14; // pixels of a line of text

const held = new Map(); // photo -> what is shown for it; null: nothing
let wanted = new Set();
let timer = null;

// Lay it over an image that has loaded, within the element that holds it.
export function cover(host, image, photo, { whole, all = false }) {
  if (!page.model.evidence) return;
  host.querySelector(".seen")?.remove();
  const seen = held.get(photo);
  if (seen) host.append(drawn(seen, image, host, whole, all));
  else if (seen === undefined) want(photo);
}

// Draw what is on the screen anew: it came just now, or photos fill their tiles in another way.
export function coverGrid(photos) {
  for (const cell of $("space").querySelectorAll(".cell")) coverCell(cell, photos);
  const { photo } = $("zoomed");
  if (photo !== undefined && (!photos || photos.has(photo))) coverZoomed(photo);
}

export function coverCell(cell, photos) {
  const photo = page.grid.order[Number(cell.dataset.at)];
  const image = cell.firstElementChild;
  if (image.naturalWidth && (!photos || photos.has(photo)))
    cover(cell, image, photo, { whole: $("grid").classList.contains("whole") });
}

export function coverZoomed(photo) {
  $("zoomed").photo = photo;
  if ($("zoomed").complete && $("zoomed").naturalWidth) cover($("stage"), $("zoomed"), photo, { whole: true, all: true });
}

export function toggle() {
  if (page.model.evidence) $("seen").setAttribute("aria-pressed", !document.body.classList.toggle("unseen"));
}

function want(photo) {
  wanted.add(photo);
  timer ??= setTimeout(fetchWanted, WAIT);
}

async function fetchWanted() {
  const photos = [...wanted].slice(0, MOST);
  wanted = new Set([...wanted].slice(MOST));
  timer = wanted.size ? setTimeout(fetchWanted, WAIT) : null;
  const names = photos.map((photo) => page.model.columns.sha256[photo]);
  try {
    const reply = await fetch("/api/evidence", { method: "POST", body: JSON.stringify({ sha256: names }) });
    if (!reply.ok) return;
    const sent = await reply.json();
    photos.forEach((photo, n) => held.set(photo, sent[names[n]] ?? null));
    coverGrid(new Set(photos));
  } catch {} // the server is away: asked for again when the photo is shown anew
}

function drawn({ boxes, mask, says }, image, host, whole, all) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const [across, down] = [host.clientWidth / width, host.clientHeight / height];
  const scale = whole ? Math.min(across, down) : Math.max(across, down);
  const svg = element("svg", { class: "seen", viewBox: `0 0 ${width} ${height}`, "aria-hidden": true });
  svg.setAttribute("preserveAspectRatio", `xMidYMid ${whole ? "meet" : "slice"}`); // as the photo fills its tile
  if (mask) {
    const href = `data:image/png;base64,${mask}`;
    svg.append(element("image", { href, width, height, preserveAspectRatio: "none" }));
  }
  const line = LINE / scale;
  const written = all ? boxes.length : host.clientWidth >= ROOMY ? NAMED : 0;
  for (const box of [...boxes].reverse()) {
    const place = { x: box.x * width, y: box.y * height, width: box.width * width, height: box.height * height };
    svg.append(element("rect", { class: "casing", ...place }), element("rect", { class: box.yes ? "yes" : "no", ...place }));
  }
  const left = whole ? 0 : Math.max(0, (width - host.clientWidth / scale) / 2); // what the tile shows begins here
  const top = whole ? 0 : Math.max(0, (height - host.clientHeight / scale) / 2);
  boxes.slice(0, written).forEach((box) => {
    const over = box.y * height - top >= line;
    const y = over ? box.y * height - line / 4 : Math.max(box.y * height, top) + line * 0.85;
    const words = `${box.phrase} ${box.score.toFixed(2)}`;
    const room = width - left - words.length * line * 0.52; // where it must begin to end within the photo
    const x = Math.max(left, Math.min(box.x * width, room)) + line / 5;
    svg.append(text(words, x, y, line, box.yes ? "yes" : "no"));
  });
  if (says && (all || written)) svg.append(text(says, left + line / 3, top + line, line, "yes"));
  return svg;
}

function text(words, x, y, line, side) {
  const one = element("text", { x, y, class: side, "font-size": line * 0.82, "stroke-width": line / 4 });
  one.textContent = words;
  return one;
}

function element(kind, attributes) {
  const one = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  return one;
}
