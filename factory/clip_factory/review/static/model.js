// What the page knows of the photos: columns as the server sends them, answers, and the ways to arrange them.

export const DOUBTFUL = 0.6; // bits; the teacher's probability lies between about 15 and 85 %

const FILTERS = [
  ["all", "All", () => true],
  ["doubtful", "Doubtful", (m, i) => m.columns.doubt[i] >= DOUBTFUL],
  ["mistakes", "Likely mistakes", (m, i) => m.columns.suspect[i]],
  ["student", "Student disagrees", (m, i) => m.columns.disagrees[i]],
  ["duplicates", "Near copies", (m, i) => m.columns.duplicates[i] > 1],
  ["open", "Unreviewed", (m, i) => m.answer[i] === null && !m.conflict[i]],
  ["gold", "Gold", (m, i) => m.answer[i] !== null],
  ["conflicts", "Conflicts", (m, i) => m.conflict[i]],
];

export class Model {
  constructor(sent) {
    this.columns = sent.columns;
    this.size = sent.columns.sha256.length;
    this.index = new Map(sent.columns.sha256.map((sha256, i) => [sha256, i]));
    this.answer = [...sent.columns.answer];
    this.by = [...sent.columns.by];
    this.conflict = [...sent.columns.conflict];
    this.waiting = new Map(); // photo -> answers not confirmed yet, oldest first
    this.evidence = sent.evidence; // whether the label source shows boxes or masks
    this.threshold = sent.threshold; // the shipped student's; null: there is none
    this.learned = sent.learned; // which labels the columns hold
    this.fresh = null; // newer ones
    this.news(sent);
  }

  // Labels that have learned from more answers, once they are there; what is on the screen keeps those it was shown with.
  renew() {
    if (!this.fresh) return;
    Object.assign(this.columns, this.fresh.columns);
    this.learned = this.fresh.learned;
    this.fresh = null;
  }

  // Take in what the server says; returns the photos whose state changed.
  news(sent) {
    const changed = new Set();
    for (const [sha256, [answer, by, conflict]] of Object.entries(sent.answers ?? {})) {
      const i = this.index.get(sha256);
      if (i === undefined) continue;
      [this.answer[i], this.by[i], this.conflict[i]] = [answer, by, conflict];
      changed.add(i);
    }
    for (const sha256 of new Set([...Object.keys(this.conflicts ?? {}), ...Object.keys(sent.conflicts)]))
      if (this.index.has(sha256)) changed.add(this.index.get(sha256));
    const { version, counts, estimate, proof, conflicts } = sent;
    Object.assign(this, { version, counts, estimate, proof, conflicts });
    return changed;
  }

  // The answer as the person sees it: what was just given counts before the server has confirmed it.
  shown(i) {
    const waiting = this.waiting.get(i);
    return waiting ? waiting.at(-1) : this.answer[i];
  }

  said(i) {
    return this.columns.predicted[i] ? "yes" : "no";
  }

  // The label that the photo bears now, and what a flip would make of it.
  flipped(i) {
    const now = this.shown(i) ?? this.said(i);
    return now === "unsure" ? this.said(i) : now === "yes" ? "no" : "yes";
  }

  // Whether the photo waits for an answer.
  open(i) {
    return this.shown(i) === null && !this.inConflict(i);
  }

  inConflict(i) {
    return this.conflict[i] && !this.waiting.has(i);
  }

  // The server has confirmed this answer.
  save(photos, answer, reviewer) {
    for (const i of photos) [this.answer[i], this.by[i], this.conflict[i]] = [answer, answer && reviewer, false];
  }

  hold(photos, answer) {
    for (const i of photos) this.waiting.set(i, [...(this.waiting.get(i) ?? []), answer]);
  }

  // Forget the oldest (or with `last`, the newest) answer that waits for these photos.
  release(photos, last = false) {
    for (const i of photos) {
      const waiting = this.waiting.get(i);
      if (!waiting) continue;
      if (last) waiting.pop();
      else waiting.shift();
      if (!waiting.length) this.waiting.delete(i);
    }
  }

  filters() {
    return FILTERS.map(([key, name, test]) => {
      let count = 0;
      for (let i = 0; i < this.size; i++) if (test(this, i)) count++;
      return { key, name, count };
    });
  }

  // Sections of a filter, each a heading and photos; a photo that is answered later keeps its place.
  arrange(key) {
    const test = FILTERS.find((filter) => filter[0] === key)[2];
    const photos = [];
    for (let i = 0; i < this.size; i++) if (test(this, i)) photos.push(i);
    if (key === "duplicates") return [{ name: "Near copies", photos: this.byGroup(photos) }];
    const by = key === "mistakes" ? this.columns.mistake : this.columns.doubt;
    return this.sections(photos.sort((a, b) => by[b] - by[a] || a - b));
  }

  sections(photos) {
    const part = (said) => ({ name: `Labeled ${said}`, said, photos: photos.filter((i) => this.said(i) === said) });
    return [part("yes"), part("no")].filter((section) => section.photos.length);
  }

  // Near copies beside each other, the group with the greatest doubt first.
  byGroup(photos) {
    const { group, doubt } = this.columns;
    const most = new Map();
    for (const i of photos) most.set(group[i], Math.max(most.get(group[i]) ?? 0, doubt[i]));
    return photos.sort((a, b) => most.get(group[b]) - most.get(group[a]) || group[a] - group[b] || doubt[b] - doubt[a]);
  }

  name(i) {
    return this.columns.path[i];
  }

  // One photo in words: what the line below the grid, the zoom, and a screen reader say. `blind` leaves out what teacher
  // and student say, which would sway an answer that is to measure them.
  words(i, blind) {
    const { p, student, disagrees, suspect, duplicates, split, random } = this.columns;
    const parts = blind ? [] : [`teacher says ${this.said(i)} (${percent(this.said(i) === "yes" ? p[i] : 1 - p[i])})`];
    if (!blind && student[i] !== null) parts.push(`student ${disagrees[i] ? "disagrees" : "agrees"}`);
    if (!blind && suspect[i]) parts.push("likely mistake");
    if (duplicates[i] > 1) parts.push(`one of ${duplicates[i]} near copies`);
    if (random[i] || blind) parts.push("drawn at random");
    parts.push(`${split[i]} split`, this.state(i));
    return parts.join(", ");
  }

  state(i) {
    if (this.waiting.has(i)) return `answered ${this.shown(i) ?? "nothing"}, not saved yet`;
    const said = this.conflicts[this.columns.sha256[i]];
    if (this.conflict[i]) return `conflict: ${Object.entries(said ?? {}).map(([who, what]) => `${who} says ${what}`).join(", ")}`;
    return this.answer[i] === null ? "not answered" : `answered ${this.answer[i]} by ${this.by[i]}`;
  }
}

export function percent(share) {
  // never 100 % for what is not certain
  return `${share > 0.99 && share < 1 ? ">99" : Math.round(share * 100)} %`;
}
