// One photo alone, large.

import { coverZoomed } from "./evidence.js";
import { $, bold, page } from "./page.js";

export function zoom(at = page.grid.focus) {
  const { grid, model } = page;
  const i = grid.order[at];
  if (i === undefined) return;
  grid.go(at, { focus: false });
  const sha256 = model.columns.sha256[i];
  if ($("zoomed").dataset.sha256 !== sha256) {
    $("zoomed").dataset.sha256 = sha256;
    $("stage").querySelector(".seen")?.remove();
    $("zoomed").onload = () => coverZoomed(i);
    $("zoomed").src = `/photo/${sha256}${page.about.region_key && `?region=${page.about.region_key}`}`;
    $("zoomed").alt = model.name(i);
  }
  $("caption").replaceChildren(bold(model.name(i)), ` ${model.words(i, page.view === "prove")}`);
  $("zoom").dataset.answer = model.shown(i) ?? "";
  if (!$("zoom").open) $("zoom").showModal();
}
