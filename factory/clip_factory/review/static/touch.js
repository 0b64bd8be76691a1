// Clicks, taps and long presses on the photos.

import { flip } from "./answers.js";
import { $, page } from "./page.js";
import { zoom } from "./zoom.js";

const LONG_PRESS = 450; // milliseconds
const STILL = 10; // pixels that a finger may move and yet rest

let press = null; // a finger on a photo, or the last one that was

$("grid").addEventListener("pointerdown", (event) => {
  const at = position(event);
  if (event.pointerType === "mouse" || at === null) return;
  press = { x: event.clientX, y: event.clientY, long: false };
  press.timer = setTimeout(() => longPress(at), LONG_PRESS);
});
$("grid").addEventListener("pointermove", (event) => {
  if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > STILL) clearTimeout(press.timer);
});
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => clearTimeout(press?.timer));
$("grid").addEventListener("contextmenu", (event) => press && event.preventDefault());

function longPress(at) {
  const { grid } = page;
  press.long = true;
  if (grid.selected.size) grid.range(at);
  else grid.toggle(at);
  grid.go(at, { extend: grid.selected.size > 1, focus: false });
}

$("grid").addEventListener("click", (event) => {
  const { grid } = page;
  const at = position(event);
  const long = press?.long;
  press = event.pointerType === "mouse" ? null : press && { ...press, long: false };
  if (at === null || long) return; // the click that ends a long press is none
  if (event.shiftKey) grid.go(at, { extend: true });
  else if (event.ctrlKey || event.metaKey || (grid.selected.size && event.pointerType === "touch")) pick(at);
  else if (grid.selected.size) grid.go(at), grid.drop(); // a click beside a selection must not answer by accident
  else {
    grid.go(at);
    if (page.view === "prove") zoom(at); // no label is shown there that a click could call wrong
    else flip([grid.order[at]]);
  }
});
$("grid").addEventListener("dblclick", (event) => event.preventDefault());

function pick(at) {
  const { grid } = page;
  grid.toggle(at);
  const { anchor } = grid;
  grid.go(at);
  grid.anchor = anchor;
}

function position(event) {
  const cell = event.target.closest?.(".cell");
  return cell ? Number(cell.dataset.at) : null;
}
