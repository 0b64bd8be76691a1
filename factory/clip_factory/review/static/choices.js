// What a person chose once and finds again: whether an answer moves on, and how many photos a batch has.

import { $, page, plural } from "./page.js";

const HOME = "factory-review-choices"; // apart from the queue's own keys
const FEWEST = 12;
const MOST = 96; // photos in a batch that fills the screen

const chosen = read();

function read() {
  try {
    return JSON.parse(localStorage.getItem(HOME)) ?? {};
  } catch {
    return {};
  }
}

function choose(what) {
  Object.assign(chosen, what);
  try {
    localStorage.setItem(HOME, JSON.stringify(chosen));
  } catch {} // no room in the browser: the choice lasts as long as the page
  choices();
}

// Whether an answer moves on to the next photo: as chosen, else where test photos are asked one after the other.
export function movesOn() {
  return chosen.movesOn ?? page.view === "prove";
}

// Photos in the next batch.
export function batch() {
  return Number(chosen.batch) || Math.min(Math.max(page.grid.screenful(), FEWEST), MOST);
}

export function choices() {
  $("onward").setAttribute("aria-checked", movesOn());
  $("batch").value = chosen.batch ?? "";
  const screen = Number(chosen.batch) ? "fit" : `fit: ${batch()}`; // as many as fill the screen
  if ($("batch").options[0].text !== screen) $("batch").options[0].text = screen;
  $("ask").textContent = `Next ${batch()}`;
  $("ask").setAttribute("aria-label", `Next ${plural(batch(), "photo")} to answer`);
}

$("onward").onclick = () => page.model && choose({ movesOn: !movesOn() });
$("batch").onchange = () => {
  if (!page.model) return;
  choose({ batch: $("batch").value });
  page.grid.go(page.grid.focus); // the keys answer again
};
