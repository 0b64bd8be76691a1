// What each key and button does.

import { advance, answer, beginProof, confirmShown, flip, following, nextBatch, undo } from "./answers.js";
import { movesOn } from "./choices.js";
import { cut, turned } from "./cut.js";
import { coverGrid, toggle } from "./evidence.js";
import { $, page } from "./page.js";
import { arrange, show } from "./shown.js";
import { openWords } from "./words.js";
import { zoom } from "./zoom.js";

const STEP = 24; // pixels by which a key makes photos larger

// The selection, else the photo in focus; alone, the one that is shown.
function current() {
  const { grid } = page;
  if (grid.selected.size && !$("zoom").open) return [...grid.selected].sort((a, b) => a - b).map((at) => grid.order[at]);
  return grid.order.length ? [grid.order[grid.focus]] : [];
}

const DO = {
  yes: () => give("yes"),
  no: () => give("no"),
  unsure: () => give("unsure"),
  clear: () => answer(current(), null),
  flip: () => flip(current()),
  zoom: () => zoom(page.grid.selected.size ? Math.min(...page.grid.selected) : page.grid.focus),
  drop: () => page.grid.drop(),
  back: () => zoom(Math.max(0, page.grid.focus - 1)),
  on: () => zoom(Math.min(page.grid.order.length - 1, page.grid.focus + 1)),
  close: () => $("zoom").close(),
};

function give(what) {
  const photos = current();
  answer(photos, what);
  if (photos.length === 1 && !page.grid.selected.size && movesOn()) advance();
}

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
  b: toggle,
  g: () => nextBatch(),
  p: prove,
  t: tryOut,
  s: openWords,
  w: whole,
  z: undo,
  "?": () => $("help").showModal(),
  "+": () => resize(Number($("size").value) + STEP),
  "=": () => resize(Number($("size").value) + STEP),
  "-": () => resize(Number($("size").value) - STEP),
};

const ZOOMED = { Enter: DO.close, ArrowLeft: DO.back, ArrowRight: DO.on, b: toggle, z: undo };

addEventListener("keydown", (event) => {
  if (!page.model || event.altKey || $("help").open) return;
  if (document.activeElement.matches("textarea")) return; // words are being written
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
  const { activeElement: at } = document;
  if (presses(key) || at.matches("select") || (at.matches("input") && key in MOVES)) return false; // arrows move a slider
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
  if (view === "prove" && following() >= 0) grid.go(following());
  else if (view === "prove" || (view === "ask" && !open)) nextBatch();
  else confirmShown();
}

function prove() {
  if (page.view === "prove") show("all");
  else beginProof();
}

// Open or close the panel of the threshold; closed, nothing is on trial.
function tryOut() {
  if (page.model.threshold === null) return;
  $("cut").hidden = !$("cut").hidden;
  if (!$("cut").hidden) $("at").focus();
  trial(null);
}

function trial(threshold) {
  page.cut = threshold;
  cut();
  if (page.view !== "cut") page.grid.refresh();
  else if ($("cut").hidden) show("all");
  else arrange("cut", turned());
}

function whole() {
  $("whole").setAttribute("aria-pressed", $("grid").classList.toggle("whole"));
  coverGrid();
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
const BUTTONS = {
  right: onward,
  ask: () => nextBatch(),
  undo,
  whole,
  seen: toggle,
  prove,
  try: tryOut,
  turned: () => arrange("cut", turned()),
  shipped: () => trial(null),
  copy: () => navigator.clipboard.writeText($("cut-command").textContent),
  keys: OTHERS["?"],
};
for (const [id, act] of Object.entries(BUTTONS)) $(id).onclick = () => page.model && act();
$("size").oninput = () => resize($("size").value);
let frame; // the slider moves more often than the screen is drawn
$("at").oninput = () => {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => trial(Number($("at").value)));
};
$("zoom").addEventListener("close", () => page.grid.go(page.grid.focus));
$("zoom").addEventListener("click", (event) => event.target === $("zoom") && $("zoom").close());
