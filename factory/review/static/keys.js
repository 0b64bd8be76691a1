// What each key and button does.

import { answer, confirmShown, flip, nextBatch, undo } from "./answers.js";
import { $, page } from "./page.js";
import { zoom } from "./zoom.js";

const STEP = 24; // pixels by which a key makes photos larger

// The selection, else the photo in focus; alone, the one that is shown.
function current() {
  const { grid } = page;
  if (grid.selected.size && !$("zoom").open) return [...grid.selected].sort((a, b) => a - b).map((at) => grid.order[at]);
  return grid.order.length ? [grid.order[grid.focus]] : [];
}

const DO = {
  yes: () => answer(current(), "yes"),
  no: () => answer(current(), "no"),
  unsure: () => answer(current(), "unsure"),
  clear: () => answer(current(), null),
  flip: () => flip(current()),
  zoom: () => zoom(page.grid.selected.size ? Math.min(...page.grid.selected) : page.grid.focus),
  drop: () => page.grid.drop(),
  back: () => zoom(Math.max(0, page.grid.focus - 1)),
  on: () => zoom(Math.min(page.grid.order.length - 1, page.grid.focus + 1)),
  close: () => $("zoom").close(),
};

const ANSWERS = { y: "yes", n: "no", u: "unsure", f: "flip", " ": "flip", Backspace: "clear", Delete: "clear" };

const MOVES = {
  ArrowLeft: (grid) => grid.focus - 1,
  ArrowRight: (grid) => grid.focus + 1,
  ArrowUp: (grid) => grid.step(-1),
  ArrowDown: (grid) => grid.step(1),
  PageUp: (grid) => grid.step(-grid.page()),
  PageDown: (grid) => grid.step(grid.page()),
  Home: () => 0,
  End: (grid) => grid.order.length - 1,
};

const OTHERS = {
  Enter: DO.zoom,
  Escape: DO.drop,
  a: onward,
  g: nextBatch,
  w: whole,
  z: undo,
  "?": () => $("help").showModal(),
  "+": () => resize(Number($("size").value) + STEP),
  "=": () => resize(Number($("size").value) + STEP),
  "-": () => resize(Number($("size").value) - STEP),
};

const ZOOMED = { Enter: DO.close, ArrowLeft: DO.back, ArrowRight: DO.on, z: undo };

addEventListener("keydown", (event) => {
  if (!page.model || event.altKey || $("help").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" || event.shiftKey) return;
    undo();
  } else if (!($("zoom").open ? zoomKey(key) : gridKey(key, event.shiftKey))) return;
  event.preventDefault();
});

// Enter and Space press the button that has the focus.
function presses(key) {
  return (key === "Enter" || key === " ") && document.activeElement.closest("button");
}

function zoomKey(key) {
  const act = ZOOMED[key] ?? DO[ANSWERS[key]];
  if (!act || presses(key)) return false;
  act();
  if ($("zoom").open) zoom();
  return true;
}

function gridKey(key, extend) {
  const { grid } = page;
  if (presses(key) || document.activeElement.matches("input")) return false; // arrows move the slider
  if (key in MOVES) {
    grid.go(MOVES[key](grid), { extend });
    if (!extend && grid.selected.size) grid.drop();
  } else if (key in ANSWERS) DO[ANSWERS[key]]();
  else if (key in OTHERS) OTHERS[key]();
  else if (key >= "1" && key <= "8") $("filters").children[Number(key) - 1].click();
  else return false;
  return true;
}

// All shown are right; in a batch that is answered, the next one.
function onward() {
  const { grid, model, view } = page;
  const open = grid.visible().some((at) => model.shown(grid.order[at]) === null);
  if (view === "ask" && !open) nextBatch();
  else confirmShown();
}

function whole() {
  $("whole").setAttribute("aria-pressed", $("grid").classList.toggle("whole"));
}

function resize(size) {
  $("size").value = size; // within its limits from here on
  page.grid.resize(Number($("size").value));
}

for (const bar of document.querySelectorAll(".actions"))
  bar.addEventListener("click", (event) => {
    const what = event.target.closest("button")?.dataset.do;
    if (!what || !page.model) return;
    DO[what]();
    if ($("zoom").open) zoom();
  });
const BUTTONS = { right: onward, ask: nextBatch, undo, whole, keys: OTHERS["?"] };
for (const [id, act] of Object.entries(BUTTONS)) $(id).onclick = () => page.model && act();
$("size").oninput = () => resize($("size").value);
$("zoom").addEventListener("close", () => page.grid.go(page.grid.focus));
$("zoom").addEventListener("click", (event) => event.target === $("zoom") && $("zoom").close());
