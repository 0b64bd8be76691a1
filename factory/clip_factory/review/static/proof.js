// How far the model is from being shown right by people's answers to random test photos.

import { $, page } from "./page.js";
import { explain } from "./terms.js";

let told = ""; // so that a word that is being explained stays where it is

export function proof() {
  const { state, says } = page.model.proof;
  const on = page.view === "prove";
  $("prove").setAttribute("aria-checked", on);
  $("proof").hidden = !on;
  $("proof").dataset.state = state;
  if (says === told) return;
  told = says;
  explain($("proof-says"), says);
}
