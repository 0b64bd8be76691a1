// The threshold, tried out: what it would find, miss and raise falsely, and which photos would change side.

import { percent } from "./model.js";
import { $, page, plural } from "./page.js";
import { explain } from "./terms.js";

// Counts of the photos that the model was asked about, at a threshold; `turned` are those that change side.
export function tally(model, at) {
  const { student } = model.columns;
  const found = { hits: 0, misses: 0, alarms: 0, rejections: 0, yes: 0, asked: 0, turned: [] };
  for (let i = 0; i < model.size; i++) {
    if (student[i] === null) continue;
    const yes = student[i] >= at;
    const answer = model.inConflict(i) ? null : model.shown(i);
    found.asked++;
    if (yes) found.yes++;
    if (answer === "yes") found[yes ? "hits" : "misses"]++;
    if (answer === "no") found[yes ? "alarms" : "rejections"]++;
    if (yes !== student[i] >= model.threshold) found.turned.push(i);
  }
  return found;
}

// What a photo would turn to, where it would: only while the threshold is being tried, and never where its answer is to
// be given unswayed.
export function turnsTo(i) {
  const { columns, threshold } = page.model;
  const p = columns.student[i];
  if ($("cut").hidden || page.view === "prove" || p === null || p >= at() === p >= threshold) return "";
  return p >= at() ? "yes" : "no";
}

export function turned() {
  const part = (name, to) => ({ name, photos: tally(page.model, at()).turned.filter((i) => turnsTo(i) === to) });
  const sections = [part("Would become yes", "yes"), part("Would become no", "no")];
  return sections.filter((section) => section.photos.length);
}

// The threshold on trial, else the shipped one.
function at() {
  return page.cut ?? page.model.threshold;
}

export function cut() {
  const { model } = page;
  $("try").disabled = model.threshold === null;
  if (model.threshold === null) $("try").title = "There is no model yet: factory run makes one";
  $("try").setAttribute("aria-expanded", !$("cut").hidden);
  if ($("cut").hidden) return;
  const shown = written(at());
  const { hits, misses, alarms, rejections, yes, asked, turned: turns } = tally(model, at());
  if (page.cut === null) $("at").value = at();
  $("at").setAttribute("aria-valuetext", shown);
  $("at-value").textContent = shown;
  const answered = hits + misses + alarms + rejections;
  const right = hits + alarms ? `, precision ${percent(hits / (hits + alarms))}` : "";
  const counts =
    `It finds ${hits} of ${hits + misses}, misses ${misses}; ${plural(alarms, "false alarm")} among ` +
    `${alarms + rejections}${right}, on ${plural(answered, "photo")} with an answer that it was not trained on. `;
  const among = `Says yes to ${yes.toLocaleString("en")} of ${asked.toLocaleString("en")} such photos in all.`;
  explain($("cut-says"), (answered ? counts : "No photo that it was not trained on has an answer. ") + among);
  $("turned").textContent = turns.length ? `Show the ${turns.length} that change side` : "None changes side";
  $("turned").disabled = !turns.length;
  $("shipped").textContent = `Shipped: ${written(model.threshold)}`;
  $("shipped").disabled = page.cut === null;
  $("cut-do").hidden = page.cut === null;
  $("cut-command").textContent = `factory threshold ${page.about.run} --at ${shown}`;
}

function written(threshold) {
  return String(Number(threshold.toFixed(3)));
}
