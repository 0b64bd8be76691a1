// The page: what each key, click and touch does, and what the person sees of it.

import { Grid } from "./grid.js";
import { Model, percent } from "./model.js";
import { Queue, Refused, Watch, ask } from "./queue.js";

const $ = (id) => document.getElementById(id);
const LONG_PRESS = 450; // milliseconds
const POLL = 3000; // milliseconds between looks at what others have answered
const narrow = matchMedia("(max-width: 44rem)");

history.replaceState(null, "", "/"); // the token belongs in the cookie from now on, not in the address
const watch = new Watch();
let model, queue, about;
let view = "all";
let note = "";

const grid = new Grid($("grid"), $("space"), paint, moved);

start().catch((error) => {
  $("progress").textContent = error.message || "The server cannot be reached.";
});

async function start() {
  const sent = await ask("/api/items");
  model = new Model(sent);
  about = sent.about;
  $("question").textContent = about.question;
  document.title = `Review: ${about.question}`;
  queue = new Queue(about.id, { sent: confirmed, dropped: refused, changed: status });
  if (narrow.matches) grid.size = Number(($("size").value = 104));
  drawFilters();
  show("all");
  figures();
  for (const entry of await queue.adopt()) hold(entry.sha256, entry.answer);
  queue.pump();
  setInterval(poll, POLL);
  addEventListener("visibilitychange", poll);
}

// --- answers ---------------------------------------------------------------------------------------------------------

function answer(photos, what) {
  if (!photos.length) return;
  note = "";
  watch.tick();
  const settles = photos.filter((i) => model.inConflict(i));
  const rest = photos.filter((i) => !model.inConflict(i));
  for (const [group, resolve] of [[settles, true], [rest, false]]) {
    if (!group.length) continue;
    const sha256 = group.map((i) => model.columns.sha256[i]);
    hold(sha256, what);
    queue.add({ sha256, answer: what, resolve: resolve && what !== null, minutes: watch.take() });
  }
  figures();
}

function flip(photos) {
  const to = { yes: [], no: [] };
  for (const i of photos) to[model.flipped(i)].push(i);
  answer(to.yes, "yes");
  answer(to.no, "no");
}

function confirmShown() {
  const shown = grid.visible();
  const open = shown.map((at) => grid.order[at]).filter((i) => model.shown(i) === null && !model.inConflict(i));
  answer(open.filter((i) => model.said(i) === "yes"), "yes");
  answer(open.filter((i) => model.said(i) === "no"), "no");
  if (shown.length && shown.at(-1) + 1 < grid.order.length) {
    const next = grid.rows[grid.rowOf(shown.at(-1) + 1)];
    $("grid").scrollTop = next.y;
    grid.go(next.from, { focus: $("grid").contains(document.activeElement) });
  }
}

async function undo() {
  const unsent = queue.takeBack();
  if (unsent) return release(unsent.sha256, true), figures();
  if (!(await queue.settled())) return say("Not undone: the server is away.");
  try {
    const { undone } = await ask("/api/undo", { key: crypto.randomUUID(), run: about.id });
    say(undone.length ? `Undone: ${plural(undone.length, "photo")}.` : "Nothing of yours is left to undo.");
    await poll();
    const place = known(undone).map((i) => grid.place.get(i)).find((at) => at !== undefined);
    if (place !== undefined) grid.go(place);
  } catch (error) {
    say(error instanceof Refused ? error.message : "Not undone: the server is away.");
  }
}

function hold(sha256s, what) {
  const photos = known(sha256s);
  model.hold(photos, what);
  grid.refresh(new Set(photos));
}

function release(sha256s, last) {
  const photos = known(sha256s);
  model.release(photos, last);
  grid.refresh(new Set(photos));
}

function known(sha256s) {
  return sha256s.map((sha256) => model.index.get(sha256)).filter((i) => i !== undefined);
}

function confirmed(entry) {
  model.save(known(entry.sha256), entry.answer, about.reviewer);
  release(entry.sha256);
  clearTimeout(poll.soon);
  poll.soon = setTimeout(poll, 250); // whether others said otherwise, and what all answers tell, comes after
}

function refused(entry, why) {
  release(entry.sha256);
  say(`The server refused an answer to ${plural(entry.sha256.length, "photo")}: ${why}`);
}

async function poll() {
  if (document.hidden || queue.entries.length) return;
  try {
    const news = await ask(`/api/changes?after=${model.version}&run=${about.id}`);
    queue.reached();
    if (queue.entries.length) return; // older than an answer that was given meanwhile
    grid.refresh(model.news(news));
    drawFilters();
    figures();
  } catch (error) {
    if (error instanceof Refused) return say(error.message);
    queue.away = error.said ?? "";
    status();
  }
}

// --- what is shown ---------------------------------------------------------------------------------------------------

function show(key) {
  arrange(key, model.arrange(key));
}

function arrange(key, sections) {
  view = key;
  grid.show(sections);
  drawFilters();
  const name = model.filters().find((filter) => filter.key === key)?.name ?? "Batch to ask";
  $("grid").setAttribute("aria-label", `Photos: ${name}, ${grid.order.length}`);
  moved();
}

async function nextBatch() {
  try {
    const { sha256 } = await ask(`/api/ask?count=${Math.min(Math.max(grid.screenful(), 12), 96)}`);
    if (!sha256.length) return say("Nothing is left to ask.");
    arrange("ask", model.sections(known(sha256)));
    grid.go(0);
  } catch (error) {
    say("No new batch: the server is away.");
  }
}

function drawFilters() {
  const host = $("filters");
  const filters = model.filters();
  if (!host.children.length)
    filters.forEach(({ key, name }, n) => {
      const button = host.appendChild(document.createElement("button"));
      button.dataset.key = key;
      button.setAttribute("aria-keyshortcuts", n + 1);
      button.append(`${name} `, document.createElement("span"));
      button.onclick = () => show(key);
    });
  filters.forEach(({ key, count }, n) => {
    const button = host.children[n];
    button.setAttribute("aria-pressed", key === view);
    button.lastChild.textContent = count.toLocaleString("en");
  });
  $("ask").setAttribute("aria-pressed", view === "ask");
}

function paint(cell, i) {
  const shown = model.shown(i);
  const conflict = model.inConflict(i);
  cell.dataset.answer = shown ?? "";
  cell.classList.toggle("waits", model.waiting.has(i));
  cell.classList.toggle("flipped", (shown === "yes" || shown === "no") && shown !== model.said(i));
  cell.classList.toggle("conflict", conflict);
  const agrees = shown === model.said(i);
  cell.querySelector(".mark").textContent = conflict ? "conflict" : shown === null ? "" : agrees ? "✓" : shown;
  cell.setAttribute("aria-label", `${model.name(i)}: ${model.words(i)}`);
}

// The place, the selection or the scroll position changed: the heading and the line below follow.
function moved() {
  if (!model) return;
  const section = grid.section();
  const marked = section?.photos.filter((i) => model.shown(i) !== null) ?? [];
  const turned = marked.filter((i) => model.shown(i) !== model.said(i)).length;
  const parts = section && [plural(section.photos.length, "photo")];
  if (marked.length) parts.push(`${marked.length.toLocaleString("en")} answered`);
  if (turned) parts.push(`${turned.toLocaleString("en")} corrected`);
  $("heading").textContent = section ? section.name : "No photos here";
  if (section) $("heading").append(Object.assign(document.createElement("span"), { textContent: parts.join(" · ") }));
  const open = grid.visible().filter((at) => model.shown(grid.order[at]) === null && !model.inConflict(grid.order[at]));
  $("right").textContent = open.length ? `All ${open.length} shown are right` : view === "ask" ? "Next batch" : "Next screen";
  document.body.classList.toggle("selecting", grid.selected.size > 0);
  detail();
}

function detail() {
  const at = grid.order[grid.focus];
  if (note) $("detail").textContent = note;
  else if (grid.selected.size) $("detail").textContent = `${plural(grid.selected.size, "photo")} selected`;
  else if (at !== undefined) $("detail").replaceChildren(bold(model.name(at)), ` ${model.words(at)}`);
  else $("detail").textContent = "";
}

function bold(text) {
  return Object.assign(document.createElement("b"), { textContent: text });
}

function say(text) {
  note = text;
  detail();
  clearTimeout(say.timer);
  say.timer = setTimeout(() => ((note = ""), detail()), 6000);
}

function figures() {
  const { counts, estimate } = model;
  const minutes = counts.minutes + watch.minutes + queue.entries.reduce((sum, entry) => sum + entry.minutes, 0);
  const parts = [`${counts.answered.toLocaleString("en")} of ${counts.images.toLocaleString("en")} answered`];
  if (minutes >= 0.05) parts.push(`${minutes.toFixed(minutes < 10 ? 1 : 0)} min`);
  $("progress").textContent = parts.join(" · ");
  $("progress").title = `${counts.yes} yes, ${counts.no} no, ${counts.unsure} unsure, ${counts.conflicts} in conflict. ${counts.probe}`;
  $("meter").setAttribute("aria-valuemax", counts.images);
  $("meter").setAttribute("aria-valuenow", counts.answered);
  $("meter").firstElementChild.style.width = `${(100 * counts.answered) / Math.max(1, counts.images)}%`;
  certainty(estimate);
  moved();
}

function certainty({ accuracy, interval: [low, high], n, enough, says }) {
  const known = accuracy !== null;
  $("estimate").hidden = false;
  $("estimate").classList.toggle("enough", enough);
  $("accuracy").textContent = known ? `Labels right: ${percent(accuracy)}` : "Labels right: not known yet";
  $("interval").textContent = known ? `(${Math.round(low * 100)} to ${percent(high)}, ${n} drawn at random)` : "";
  const [span, dot] = [...$("estimate").querySelectorAll(".span, .dot")];
  span.hidden = dot.hidden = !known;
  span.style.left = `${low * 100}%`;
  span.style.width = `${(high - low) * 100}%`;
  dot.style.left = `${(accuracy ?? 0.5) * 100}%`;
  $("says").textContent = enough ? "More review would hardly change this." : "More review still changes this.";
  $("estimate").title = says;
}

function status() {
  if (!queue) return;
  const waits = queue.entries.reduce((sum, entry) => sum + entry.sha256.length, 0);
  const away = queue.away !== null;
  $("saved").className = away ? "away" : waits ? "busy" : "";
  const kept = waits ? `; ${plural(waits, "answer")} kept here` : "";
  const trouble = queue.away ? `Not saved: ${queue.away}` : "Server away";
  $("saved").textContent = away ? `${trouble}${kept}; trying again` : waits ? `Saving ${waits}` : "All saved";
}

function plural(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}

// --- one photo alone -------------------------------------------------------------------------------------------------

function zoom(at = grid.focus) {
  const i = grid.order[at];
  if (i === undefined) return;
  grid.go(at, { focus: false });
  const sha256 = model.columns.sha256[i];
  if ($("zoomed").dataset.sha256 !== sha256) {
    $("zoomed").dataset.sha256 = sha256;
    $("zoomed").src = `/photo/${sha256}`;
    $("zoomed").alt = model.name(i);
  }
  $("caption").replaceChildren(bold(model.name(i)), ` ${model.words(i)}`);
  $("zoom").dataset.answer = model.shown(i) ?? "";
  if (!$("zoom").open) $("zoom").showModal();
}

// --- keys, clicks, touch ---------------------------------------------------------------------------------------------

const current = () =>
  grid.selected.size && !$("zoom").open
    ? [...grid.selected].sort((a, b) => a - b).map((at) => grid.order[at])
    : grid.order.length ? [grid.order[grid.focus]] : [];

const DO = {
  yes: () => answer(current(), "yes"),
  no: () => answer(current(), "no"),
  unsure: () => answer(current(), "unsure"),
  clear: () => answer(current(), null),
  flip: () => flip(current()),
  zoom: () => zoom(grid.selected.size ? Math.min(...grid.selected) : grid.focus),
  drop: () => grid.drop(),
  back: () => zoom(Math.max(0, grid.focus - 1)),
  on: () => zoom(Math.min(grid.order.length - 1, grid.focus + 1)),
  close: () => $("zoom").close(),
};

const KEYS = { y: "yes", n: "no", u: "unsure", f: "flip", " ": "flip", Backspace: "clear", Delete: "clear" };
const MOVES = {
  ArrowLeft: () => grid.focus - 1,
  ArrowRight: () => grid.focus + 1,
  ArrowUp: () => grid.step(-1),
  ArrowDown: () => grid.step(1),
  PageUp: () => grid.step(-grid.page()),
  PageDown: () => grid.step(grid.page()),
  Home: () => 0,
  End: () => grid.order.length - 1,
};

addEventListener("keydown", (event) => {
  if (!model || event.altKey || $("help").open) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" || event.shiftKey) return;
    undo();
  } else if (!($("zoom").open ? zoomKey(key) : gridKey(key, event))) return;
  event.preventDefault();
});

function zoomKey(key) {
  if (key === "Enter" && document.activeElement.closest("button")) return false;
  if (key === "Enter") $("zoom").close();
  else if (key === "ArrowLeft") DO.back();
  else if (key === "ArrowRight") DO.on();
  else if (key === "z") undo();
  else if (key in KEYS) {
    if (key === " " && document.activeElement.closest("button")) return false;
    DO[KEYS[key]]();
  } else return false;
  if ($("zoom").open) zoom();
  return true;
}

function gridKey(key, event) {
  // Enter and Space press the button that has the focus; arrows move the slider that has it.
  const on = document.activeElement;
  if (on.matches("input") || (on.matches("button") && (key === "Enter" || key === " "))) return false;
  if (key in MOVES) grid.go(MOVES[key](), { extend: event.shiftKey }), event.shiftKey || clearSelection();
  else if (key in KEYS) DO[KEYS[key]]();
  else if (key === "Enter") DO.zoom();
  else if (key === "Escape") grid.drop();
  else if (key === "a") onward();
  else if (key === "g") nextBatch();
  else if (key === "w") whole();
  else if (key === "z") undo();
  else if (key === "?") $("help").showModal();
  else if (key === "+" || key === "=" || key === "-") resize(Number($("size").value) + (key === "-" ? -24 : 24));
  else if (key >= "1" && key <= "8") $("filters").children[Number(key) - 1].click();
  else return false;
  return true;
}

function clearSelection() {
  if (grid.selected.size) grid.drop();
}

function onward() {
  const open = grid.visible().some((at) => model.shown(grid.order[at]) === null);
  if (view === "ask" && !open) nextBatch();
  else confirmShown();
}

function whole() {
  $("whole").setAttribute("aria-pressed", $("grid").classList.toggle("whole"));
}

function resize(size) {
  $("size").value = size;
  grid.resize(Number($("size").value));
}

for (const bar of document.querySelectorAll(".actions"))
  bar.addEventListener("click", (event) => {
    const what = event.target.closest("button")?.dataset.do;
    if (!what) return;
    DO[what]();
    if ($("zoom").open) zoom();
  });
$("zoom").addEventListener("close", () => grid.go(grid.focus));
$("zoom").addEventListener("click", (event) => event.target === $("zoom") && $("zoom").close());
$("right").onclick = onward;
$("ask").onclick = nextBatch;
$("undo").onclick = undo;
$("whole").onclick = whole;
$("keys").onclick = () => $("help").showModal();
$("size").oninput = () => resize($("size").value);

let press = null; // a finger that rests on a photo

$("grid").addEventListener("pointerdown", (event) => {
  const at = position(event);
  if (event.pointerType === "mouse" || at === null) return;
  press = { x: event.clientX, y: event.clientY, done: false };
  press.timer = setTimeout(() => {
    press.done = true;
    if (grid.selected.size) grid.range(at);
    else grid.toggle(at);
    grid.go(at, { extend: grid.selected.size > 1, focus: false });
  }, LONG_PRESS);
});
$("grid").addEventListener("pointermove", (event) => {
  if (press && Math.hypot(event.clientX - press.x, event.clientY - press.y) > 10) clearTimeout(press.timer);
});
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => clearTimeout(press?.timer));
$("grid").addEventListener("contextmenu", (event) => press && event.preventDefault());

$("grid").addEventListener("click", (event) => {
  const at = position(event);
  const held = press?.done;
  press = event.pointerType === "mouse" ? null : press && { ...press, done: false };
  if (at === null || held) return;
  if (event.shiftKey) grid.go(at, { extend: true });
  else if (event.ctrlKey || event.metaKey || (grid.selected.size && event.pointerType === "touch")) pick(at);
  else if (grid.selected.size) grid.go(at), grid.drop(); // a click beside a selection must not answer by accident
  else {
    grid.go(at);
    flip([grid.order[at]]);
  }
});
$("grid").addEventListener("dblclick", (event) => event.preventDefault());

function pick(at) {
  grid.toggle(at);
  const anchor = grid.anchor;
  grid.go(at, { focus: true });
  grid.anchor = anchor;
}

function position(event) {
  const cell = event.target.closest?.(".cell");
  return cell ? Number(cell.dataset.at) : null;
}

grid.source = (i) => `/thumb/${model.columns.sha256[i]}`;
