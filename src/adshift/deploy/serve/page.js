"use strict";
// Everything that comes from outside is set as text, never as markup.
const SHOWN = 24, DRAWN = 200, EVERY = 1000;
const at = (id) => document.getElementById(id);
const digits = (value) => Number(value).toPrecision(5);
let chosen = null, pictures = new Map(), seen = "";

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || answer.statusText);
  return answer.json();
}

function element(tag, text, ...classes) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes);
  return made;
}

const kind = (one) => one.anomalous ? "anomalous" : "normal";
const word = (one) => one.anomalous ? "Rejected" : "Good";
const where = (one) => `v1/models/${encodeURIComponent(one.model)}/verdicts/${one.id}/overlay`;

function options(models) {
  const names = models.map((one) => one.name);
  if (!names.includes(chosen)) chosen = names[0];
  const select = at("model");
  if ([...select.options].map((one) => one.value).join() === names.join()) return;
  select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  select.onchange = () => { chosen = select.value; seen = ""; tick(); };
}

function last(verdicts, model) {
  const one = verdicts[0];
  at("threshold").textContent = `${digits(model.threshold)} (${model.threshold_from})`;
  at("none").hidden = Boolean(one);
  at("picture").hidden = !one;
  if (!one) { for (const id of ["verdict", "score", "part", "share"]) at(id).textContent = ""; return; }
  if (at("picture").dataset.id !== one.id) {
    at("picture").dataset.id = one.id;
    at("picture").onerror = () => { at("picture").hidden = true; };
    at("picture").src = where(one);
  }
  at("verdict").textContent = word(one);
  at("verdict").className = kind(one);
  at("score").textContent = digits(one.score);
  at("part").textContent = `${one.image}, ${new Date(one.time).toLocaleTimeString()}`;
  const rejected = verdicts.filter((each) => each.anomalous), marked = rejected.filter((each) => each.false_alarm);
  at("share").textContent = `${rejected.length} of ${verdicts.length}` + (marked.length ? `, ${marked.length} of them false alarms` : "");
}

function shape(tag, attributes, ...classes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.classList.add(...classes);
  return made;
}

function chart(verdicts, threshold) {
  const shown = [...verdicts].reverse(), values = shown.map((one) => one.score).concat(threshold);
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.08;
  const y = (value) => 205 - 190 * (value - low + room) / (high - low + 2 * room || 1);
  const x = (index) => 60 + 730 * (index + DRAWN - shown.length) / (DRAWN - 1);
  const parts = [shape("line", { x1: 60, x2: 790, y1: y(threshold), y2: y(threshold) }, "threshold")];
  for (const value of [low, high, threshold]) {
    const label = shape("text", { x: 54, y: y(value) + 4, "text-anchor": "end" });
    label.textContent = digits(value);
    if (value === threshold || Math.abs(y(value) - y(threshold)) > 16) parts.push(label);
  }
  shown.forEach((one, index) => parts.push(shape("circle", { cx: x(index), cy: y(one.score), r: one.anomalous ? 4.5 : 3 },
    "dot", one.false_alarm ? "marked" : kind(one))));
  at("chart").replaceChildren(...parts);
}

function drift(model) {
  const result = model.drift, [waiting, wanted] = model.drift_window, fit = at("fit");
  fit.className = result && result.verdict || "";
  const next = wanted ? ` Next look: ${waiting} of ${wanted} parts.` : "";
  if (!result) fit.textContent = wanted ? `No look yet.${next}` : "Not watched.";
  else if (result.verdict === "fine") fit.textContent = `Yes: no change at look ${result.look}.${next}`;
  else if (result.verdict === "changed") fit.textContent = `The parts changed (look ${result.look}). Call whoever keeps the model:`
    + ` adshift drift says what helps, adshift recalibrate sets a new threshold from good parts of today.${next}`;
  else fit.textContent = `Cannot tell yet.${next}`;
  at("reasons").replaceChildren(...(result ? result.reasons : []).map((text) => element("li", text, "muted")));
}

function part(one) {
  const made = element("article", undefined, kind(one)), picture = element("img");
  picture.alt = `${word(one)}: ${one.image}`;
  picture.loading = "lazy";
  picture.onerror = () => picture.remove();
  picture.src = where(one);
  made.append(picture, element("p", `${word(one)}, ${digits(one.score)}`, kind(one)), element("p", one.image, "muted"));
  if (one.anomalous) {
    const button = element("button", one.false_alarm ? "False alarm" : "Mark as false alarm");
    button.setAttribute("aria-pressed", String(one.false_alarm));
    button.onclick = async () => {
      button.disabled = true;
      try {
        await ask(`v1/verdicts/${one.id}/mark`, { method: "POST", headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ false_alarm: !one.false_alarm }) });
      } finally { seen = ""; tick(); }
    };
    made.append(button);
  }
  return made;
}

function parts(verdicts) {
  const wanted = verdicts.slice(0, SHOWN), kept = new Map();
  for (const one of wanted) {
    const key = `${one.id} ${one.false_alarm}`;
    kept.set(key, pictures.get(key) || part(one));
  }
  pictures = kept;
  at("parts").replaceChildren(...kept.values());
}

let running = false;
async function tick() {
  if (running) return;
  running = true;
  try {
    const state = await ask("v1/models");
    options(state.models);
    const model = state.models.find((one) => one.name === chosen);
    const { verdicts } = await ask(`v1/models/${encodeURIComponent(chosen)}/verdicts?count=${DRAWN}`);
    const told = Object.entries(state.problems).concat(model.problem ? [["model", `${model.problem}; the one before goes on`]] : []);
    at("problems").replaceChildren(...told.map(([name, text]) => element("li", `${name}: ${text}`)));
    drift(model);
    const now = `${chosen} ${model.threshold} ${verdicts.map((one) => one.id + one.false_alarm).join()}`;
    if (now !== seen) { last(verdicts, model); chart(verdicts, model.threshold); parts(verdicts); seen = now; }
    at("link").textContent = "live";
    at("link").className = "";
  } catch (error) {
    at("link").textContent = `no connection: ${error.message}`;
    at("link").className = "lost";
  } finally { running = false; }
}

tick();
setInterval(tick, EVERY);
