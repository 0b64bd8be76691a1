// The slider: what the answers to the test photos would be at another threshold, and which photos change side.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("line-data").textContent);
  const find = (id) => document.getElementById(`line-${id}`);
  const slider = find("at");
  const photos = [...document.querySelectorAll("#line-photos li")];
  const home = Math.min(999, Math.max(1, Math.round(1000 * data.shipped)));
  const count = (n) => n.toLocaleString("en");
  const photo = (n) => `${count(n)} test photo${n === 1 ? "" : "s"}`;

  // Thousandths -> the threshold, its name, and the counts there; the shipped one need not lie on the grid.
  function look(place) {
    const shipped = place === home;
    const at = shipped ? data.shipped : place / 1000;
    const [hits, alarms, calls] = shipped ? data.at : [data.hits, data.alarms, data.calls].map((all) => all[place - 1]);
    return { at, name: String(Number(at.toFixed(shipped ? 4 : 3))), hits, alarms, calls, shipped };
  }

  function told(now) {
    const right = now.hits + now.alarms ? `${((100 * now.hits) / (now.hits + now.alarms)).toFixed(1)} %` : "none";
    return { found: `${count(now.hits)} of ${count(data.yes)}`, missed: count(data.yes - now.hits),
      alarms: `${count(now.alarms)} of ${count(data.no)}`, right };
  }

  function turning(now, then) {
    const turned = Math.abs(now.calls - then.calls);
    if (!turned) return now.shipped ? "The test photos nearest to the line:" : "No test photo changes side.";
    const lower = now.calls > then.calls;
    const [yes, no] = [Math.abs(now.hits - then.hits), Math.abs(now.alarms - then.alarms)];
    const [rightly, wrongly] = lower ? [yes, no] : [no, yes];
    const rest = turned - yes - no;
    const which = rest < turned ? `${count(rest)} of them` : turned === 1 ? "it" : "they";
    const verb = rest === 1 ? "does" : "do";
    const unknown = rest ? `; ${which} ${verb} not count: not labeled by people, or picked for doubt` : "";
    const how = rest === turned ? "" : `: ${count(rightly)} rightly, ${count(wrongly)} wrongly, by ${data.by}`;
    const shown = photos.filter((one) => !one.hidden).length;
    const fewer = shown < turned ? ` The ${count(shown)} nearest:` : "";
    return `${photo(turned)} ${turned === 1 ? "turns" : "turn"} ${lower ? "from no to yes" : "from yes to no"}${how}${unknown}.${fewer}`;
  }

  function show() {
    const place = Math.min(999, Math.max(1, Number(slider.value)));
    const [now, then] = [look(place), look(home)];
    const [low, high] = [now.at, then.at].sort((a, b) => a - b).map(Math.fround);
    for (const one of photos) {
      const p = Math.fround(Number(one.dataset.p));
      one.hidden = now.shipped ? !("rest" in one.dataset) : !(p >= low && p < high);
      one.querySelector("b").textContent = p >= Math.fround(now.at) ? "yes" : "no";
    }
    const words = told(now);
    for (const [name, text] of Object.entries(words)) find(name).textContent = text;
    find("name").textContent = now.name;
    find("mark").style.left = `${100 * now.at}%`;
    find("turning").textContent = turning(now, then);
    find("back").disabled = now.shipped;
    find("move").hidden = now.shipped;
    find("command").textContent = `${data.command} ${now.name}`;
    slider.setAttribute("aria-valuetext", `${now.name}: finds ${words.found}, false alarms ${words.alarms}`);
  }

  // Arrow keys go by hundredths, with Shift by thousandths.
  slider.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const [place, step] = [Number(slider.value), event.shiftKey ? 1 : 10];
    const next = way > 0 ? Math.floor(place / step) + 1 : Math.ceil(place / step) - 1;
    slider.value = Math.min(999, Math.max(1, next * step));
    show();
  });
  slider.addEventListener("input", show);
  find("back").addEventListener("click", () => {
    slider.value = home;
    show();
    slider.focus();
  });
  slider.value = home;
  find("tool").hidden = false;
  show();
})();
