// What the person sees of it all: cells, filters, the heading, the line below, how far and how sure.

import { choices } from "./choices.js";
import { cut, turnsTo } from "./cut.js";
import { percent } from "./model.js";
import { $, bold, page, plural } from "./page.js";
import { proof } from "./proof.js";
import { explain } from "./terms.js";
import { wordsTurn } from "./words.js";

const VIEWS = { ask: "Batch to ask", prove: "Test photos, drawn at random", cut: "Photos that change side", words: "By the words on trial" };

let note = ""; // what was said last, for a few seconds

export function show(key) {
  page.model.renew();
  arrange(key, page.model.arrange(key));
}

export function arrange(key, sections) {
  page.view = key;
  document.body.classList.toggle("blind", key === "prove"); // no box may sway an answer that is to measure the teacher
  page.grid.show(sections);
  filters();
  const name = VIEWS[key] ?? page.model.filters().find((filter) => filter.key === key).name;
  $("grid").setAttribute("aria-label", `Photos: ${name}, ${page.grid.order.length}`);
  history.replaceState(null, "", key === "prove" ? "#prove" : "/"); // loaded anew, the page goes on with it
  proof();
  moved();
}

export function filters() {
  const host = $("filters");
  const found = page.model.filters();
  if (!host.children.length)
    found.forEach(({ key, name }, n) => {
      const button = host.appendChild(document.createElement("button"));
      button.setAttribute("aria-keyshortcuts", n + 1);
      if (key !== "all") button.dataset.term = key;
      button.append(`${name} `, document.createElement("span"));
      button.onclick = () => show(key);
    });
  found.forEach(({ key, count }, n) => {
    const button = host.children[n];
    button.setAttribute("aria-pressed", key === page.view);
    button.lastChild.textContent = count.toLocaleString("en");
  });
  $("ask").setAttribute("aria-pressed", page.view === "ask");
}

export function paint(cell, i) {
  const { model } = page;
  const blind = page.view === "prove";
  const turns = wordsTurn(i) || turnsTo(i);
  const shown = model.shown(i);
  const conflict = model.inConflict(i);
  cell.dataset.answer = shown ?? "";
  cell.classList.toggle("waits", model.waiting.has(i));
  cell.classList.toggle("flipped", !blind && (shown === "yes" || shown === "no") && shown !== model.said(i));
  cell.dataset.turns = turns;
  cell.classList.toggle("conflict", conflict);
  const agrees = !blind && shown === model.said(i);
  cell.querySelector(".mark").textContent = conflict ? "conflict" : shown === null ? "" : agrees ? "✓" : shown;
  const turning = turns ? `, would become ${turns}` : "";
  cell.setAttribute("aria-label", `${model.name(i)}: ${model.words(i, blind)}${turning}`);
}

// The place, the selection or the scroll position changed: the heading and the line below follow.
export function moved() {
  const { grid, model, view } = page;
  if (!model) return;
  const section = grid.section();
  const marked = section?.photos.filter((i) => model.shown(i) !== null) ?? [];
  const turned = marked.filter((i) => model.shown(i) !== model.said(i)).length;
  const parts = section && [plural(section.photos.length, "photo")];
  if (marked.length) parts.push(`${marked.length.toLocaleString("en")} answered`);
  if (turned && view !== "prove") parts.push(`${turned.toLocaleString("en")} corrected`);
  $("heading").textContent = section ? section.name : "No photos here";
  if (section) $("heading").append(Object.assign(document.createElement("span"), { textContent: parts.join(" · ") }));
  const open = page.trial ? 0 : grid.visible().filter((at) => model.open(grid.order[at])).length;
  const left = view === "prove" ? "Next open photo" : `All ${open} shown are right`;
  const waits = view === "prove" ? section?.photos.some((i) => model.open(i)) : open;
  $("right").textContent = waits ? left : view === "ask" || view === "prove" ? "Next batch" : "Next screen";
  document.body.classList.toggle("selecting", grid.selected.size > 0);
  choices();
  detail();
}

function detail() {
  const { grid, model } = page;
  const at = grid.order[grid.focus];
  if (note) $("detail").textContent = note;
  else if (grid.selected.size) $("detail").textContent = `${plural(grid.selected.size, "photo")} selected`;
  else if (at !== undefined) {
    explain($("detail"), ` ${model.words(at, page.view === "prove")}`);
    $("detail").prepend(bold(model.name(at)));
  } else $("detail").textContent = "";
}

export function say(text) {
  note = text;
  detail();
  clearTimeout(say.timer);
  if (text) say.timer = setTimeout(() => say(""), 6000);
}

export function figures() {
  const { counts, estimate } = page.model;
  const minutes = counts.minutes + page.watch.minutes + page.queue.entries.reduce((sum, entry) => sum + entry.minutes, 0);
  const parts = [`${counts.answered.toLocaleString("en")} of ${counts.images.toLocaleString("en")} answered`];
  if (minutes >= 0.05) parts.push(`${minutes.toFixed(minutes < 10 ? 1 : 0)} min`);
  $("progress").textContent = parts.join(" · ");
  $("progress").title = `${counts.yes} yes, ${counts.no} no, ${counts.unsure} unsure, ${counts.conflicts} in conflict. ${counts.probe}`;
  $("meter").setAttribute("aria-valuemax", counts.images);
  $("meter").setAttribute("aria-valuenow", counts.answered);
  $("meter").firstElementChild.style.width = `${(100 * counts.answered) / Math.max(1, counts.images)}%`;
  certainty(estimate);
  proof();
  cut();
  moved();
}

function certainty({ accuracy, interval: [low, high], n, enough, says }) {
  const known = accuracy !== null;
  $("estimate").hidden = false;
  $("estimate").classList.toggle("enough", enough);
  $("accuracy").textContent = known ? `Labels right: ${percent(accuracy)}` : "Labels right: not known yet";
  explain($("interval"), known ? `(${Math.round(low * 100)} to ${percent(high)}, ${n} drawn at random)` : "");
  const [span, dot] = [...$("estimate").querySelectorAll(".span, .dot")];
  span.hidden = dot.hidden = !known;
  span.style.left = `${low * 100}%`;
  span.style.width = `${(high - low) * 100}%`;
  dot.style.left = `${(accuracy ?? 0.5) * 100}%`;
  $("says").textContent = enough ? "More review would hardly change this." : "More review still changes this.";
  $("estimate").title = says;
}

// Whether all is saved.
export function status() {
  const { queue } = page;
  if (!queue) return;
  const waits = queue.entries.reduce((sum, entry) => sum + entry.sha256.length, 0);
  const away = queue.away !== null;
  $("saved").className = away ? "away" : waits ? "busy" : "";
  const kept = waits ? `; ${plural(waits, "answer")} kept here` : "";
  const trouble = queue.away ? `Not saved: ${queue.away}` : "Server away";
  $("saved").textContent = away ? `${trouble}${kept}; trying again` : waits ? `Saving ${waits}` : "All saved";
}
